"""Loss slices along directions, maps over them, and what they show."""

from landscape.slices.check import SliceCheck, check_slice
from landscape.slices.directions import random_directions
from landscape.slices.grid import slice_1d, slice_2d
from landscape.slices.maps import convexity_map, gradient_norm_map
from landscape.slices.quadratic import QuadraticModel, quadratic_model
from landscape.slices.topology import persistence

__all__ = [
    "QuadraticModel",
    "SliceCheck",
    "check_slice",
    "convexity_map",
    "gradient_norm_map",
    "persistence",
    "quadratic_model",
    "random_directions",
    "slice_1d",
    "slice_2d",
]
