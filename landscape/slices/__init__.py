"""Loss slices along directions, maps over them and what they show, and paths between networks."""

from landscape.slices.adam_directions import adam_directions
from landscape.slices.barrier import Barrier, barrier
from landscape.slices.between_models import direction_to, plane_through
from landscape.slices.bezier import path_losses, straight_path, train_path
from landscape.slices.check import SliceCheck, check_slice
from landscape.slices.direction_set import Directions
from landscape.slices.directions import random_directions
from landscape.slices.eigen_directions import hessian_directions
from landscape.slices.grid import slice_1d, slice_2d
from landscape.slices.interpolation import interpolate
from landscape.slices.maps import convexity_map, gradient_norm_map
from landscape.slices.normalization import normalize_direction
from landscape.slices.quadratic import QuadraticModel, quadratic_model
from landscape.slices.recorder import Recorder
from landscape.slices.topology import persistence
from landscape.slices.trajectory import project_trajectory
from landscape.slices.trajectory_pca import pca_directions

__all__ = [
    "Barrier",
    "Directions",
    "QuadraticModel",
    "Recorder",
    "SliceCheck",
    "adam_directions",
    "barrier",
    "check_slice",
    "convexity_map",
    "direction_to",
    "gradient_norm_map",
    "hessian_directions",
    "interpolate",
    "normalize_direction",
    "path_losses",
    "pca_directions",
    "persistence",
    "plane_through",
    "project_trajectory",
    "quadratic_model",
    "random_directions",
    "slice_1d",
    "slice_2d",
    "straight_path",
    "train_path",
]
