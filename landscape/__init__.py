"""The geometry of trained neural networks: Hessian spectra, sharpness and loss landscapes.

import landscape as ls

problem = ls.Problem(model, criterion, data)        # a scalar function of one vector
pairs = ls.top_eigenpairs(ls.hessian(problem), k=10)
"""

from importlib.metadata import version

from landscape import metrics
from landscape.analysis import analyze
from landscape.block_spectra import block_spectra
from landscape.curvature import fisher, ggn, hessian, hessian_blocks
from landscape.linalg import (
    absolute_trace,
    diagonal,
    eigenvalue_count,
    frobenius_norm,
    log_determinant,
    spectral_density,
    top_eigenpairs,
    trace,
)
from landscape.metrics import METRICS
from landscape.operator import CurvatureOperator, MatrixOperator
from landscape.problem import Problem
from landscape.results import BlockSpectra, EigenPairs, Estimate, Slice1D, Slice2D, SliceBand, SpectralDensity
from landscape.slices import (
    check_slice,
    convexity_map,
    gradient_norm_map,
    persistence,
    quadratic_model,
    random_directions,
    slice_1d,
    slice_2d,
)
from landscape.study import Correlation, correlate
from landscape.surfaces import Map2D, Persistence
from landscape.training import (
    AdaHessian,
    SharpnessAware,
    Tracker,
    TrainConfig,
    load_checkpoint,
    objectives,
    rules,
    train,
)

__version__ = version("landscape-toolkit")

__all__ = [
    # a network on a data set as a function
    "Problem",
    # curvature operators
    "CurvatureOperator",
    "MatrixOperator",
    "fisher",
    "ggn",
    "hessian",
    "hessian_blocks",
    # what can be asked of an operator
    "absolute_trace",
    "diagonal",
    "eigenvalue_count",
    "frobenius_norm",
    "log_determinant",
    "spectral_density",
    "top_eigenpairs",
    "trace",
    # of all its blocks, and along a training
    "Tracker",
    "block_spectra",
    # sharpness
    "METRICS",
    "analyze",
    "metrics",
    # slices of the loss
    "check_slice",
    "quadratic_model",
    "random_directions",
    "slice_1d",
    "slice_2d",
    # other maps of a plane
    "convexity_map",
    "gradient_norm_map",
    "persistence",
    # training
    "AdaHessian",
    "SharpnessAware",
    "TrainConfig",
    "load_checkpoint",
    "lookahead",
    "objectives",
    "rules",
    "train",
    # many networks
    "Correlation",
    "correlate",
    # results
    "BlockSpectra",
    "EigenPairs",
    "Estimate",
    "Map2D",
    "Persistence",
    "Slice1D",
    "Slice2D",
    "SliceBand",
    "SpectralDensity",
]
