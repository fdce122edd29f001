"""Loss slices along directions, maps over them and what they show, and paths between networks."""

from landscape.slices.check import SliceCheck, check_slice
from landscape.slices.directions.adam import adam_directions
from landscape.slices.directions.between_models import direction_to, plane_through
from landscape.slices.directions.direction_set import Directions
from landscape.slices.directions.eigen import hessian_directions
from landscape.slices.directions.normalization import normalize_direction
from landscape.slices.directions.random import random_directions
from landscape.slices.directions.trajectory_pca import pca_directions
from landscape.slices.grid import slice_1d, slice_2d
from landscape.slices.maps import convexity_map, gradient_norm_map
from landscape.slices.paths.barrier import Barrier, barrier
from landscape.slices.paths.bezier import path_losses, straight_path, train_path
from landscape.slices.paths.interpolation import interpolate
from landscape.slices.paths.quadratic import QuadraticModel, quadratic_model
from landscape.slices.paths.recorder import Recorder
from landscape.slices.paths.trajectory import project_trajectory
from landscape.slices.topology import persistence

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
