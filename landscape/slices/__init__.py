"""Loss slices along directions, and paths between networks."""

from landscape.slices.adam_directions import adam_directions
from landscape.slices.barrier import Barrier, barrier
from landscape.slices.between_models import direction_to, plane_through
from landscape.slices.bezier import path_losses, straight_path, train_path
from landscape.slices.direction_set import Directions
from landscape.slices.directions import random_directions
from landscape.slices.eigen_directions import hessian_directions
from landscape.slices.grid import slice_1d, slice_2d
from landscape.slices.normalization import normalize_direction
from landscape.slices.recorder import Recorder
from landscape.slices.trajectory import project_trajectory
from landscape.slices.trajectory_pca import pca_directions

__all__ = [
    "Barrier",
    "Directions",
    "Recorder",
    "adam_directions",
    "barrier",
    "direction_to",
    "hessian_directions",
    "normalize_direction",
    "path_losses",
    "pca_directions",
    "plane_through",
    "project_trajectory",
    "random_directions",
    "slice_1d",
    "slice_2d",
    "straight_path",
    "train_path",
]
