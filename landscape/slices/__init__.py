"""Loss slices along directions."""

from landscape.slices.directions import random_directions
from landscape.slices.grid import slice_1d, slice_2d
from landscape.slices.maps import convexity_map, gradient_norm_map
from landscape.slices.topology import persistence

__all__ = ["convexity_map", "gradient_norm_map", "persistence", "random_directions", "slice_1d", "slice_2d"]
