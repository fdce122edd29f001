"""Optimisers beside torch's: AdaHessian, natural gradient and Lookahead."""
