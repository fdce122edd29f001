"""Loss slices along directions."""

from landscape.slices.check import SliceCheck, check_slice
from landscape.slices.directions import random_directions
from landscape.slices.grid import slice_1d, slice_2d
from landscape.slices.quadratic import QuadraticModel, quadratic_model

__all__ = [
    "QuadraticModel",
    "SliceCheck",
    "check_slice",
    "quadratic_model",
    "random_directions",
    "slice_1d",
    "slice_2d",
]
