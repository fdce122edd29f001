"""Optimisers beside torch's: AdaHessian and Lookahead."""
