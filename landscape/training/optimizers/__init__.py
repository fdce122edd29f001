"""Optimisers beside torch's: AdaHessian, natural gradient and Lookahead; those of other libraries by name."""
