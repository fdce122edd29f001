"""The function w to L(w): a network on a data set, its batches, weights and units."""

from landscape.problem.problem import Problem

__all__ = ["Problem"]
