"""Loss slices along directions."""

from landscape.slices.directions import random_directions
from landscape.slices.grid import slice_1d, slice_2d
from landscape.slices.interpolation import interpolate

__all__ = ["interpolate", "random_directions", "slice_1d", "slice_2d"]
