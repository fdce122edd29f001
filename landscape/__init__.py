"""The geometry of trained neural networks: Hessian spectra, sharpness and loss landscapes.

import landscape as ls

problem = ls.Problem(model, criterion, data)        # a scalar function of one vector
pairs = ls.top_eigenpairs(ls.hessian(problem), k=10)
"""

from typing import TYPE_CHECKING, Any

from landscape import metrics
from landscape.curvature import fisher, ggn, hessian, hessian_blocks, product_memory
from landscape.curvature.block_spectra import block_spectra
from landscape.later import later
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
from landscape.linalg.operator import CurvatureOperator, MatrixOperator
from landscape.metrics import METRICS
from landscape.metrics.analyze import analyze
from landscape.problem import Problem
from landscape.slices import (
    Recorder,
    adam_directions,
    barrier,
    check_slice,
    convexity_map,
    direction_to,
    gradient_norm_map,
    hessian_directions,
    interpolate,
    normalize_direction,
    path_losses,
    pca_directions,
    persistence,
    plane_through,
    project_trajectory,
    quadratic_model,
    random_directions,
    slice_1d,
    slice_2d,
    straight_path,
    train_path,
)
from landscape.storage.results import (
    BezierPath,
    BlockSpectra,
    EigenPairs,
    Estimate,
    Map2D,
    Persistence,
    Slice1D,
    Slice2D,
    SliceBand,
    SpectralDensity,
    Trajectory,
)
from landscape.storage.results.record import own_version
from landscape.storage.results.shown import Drawn
from landscape.study import Correlation, NestedSelection, correlate, nested_selection
from landscape.training import (
    AdaHessian,
    NaturalGradient,
    SharpnessAware,
    Tracker,
    lookahead,
    objectives,
    rules,
)

if TYPE_CHECKING:
    from landscape.study import load_run
    from landscape.training import TrainConfig, load_checkpoint, train
else:
    __getattr__, __dir__ = later(
        __name__, {"TrainConfig": "training", "load_checkpoint": "training", "load_run": "study", "train": "training"}
    )

__version__ = own_version()


def _plot(result: Any, ax: Any = None, **options: Any) -> Any:
    """Draw it, by the function of `landscape.plots` that is made for it; matplotlib is loaded now."""
    from landscape.plots.of_results import draw

    return draw(result, ax, **options)


Drawn.plot = _plot

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
    "product_memory",
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
    # directions
    "adam_directions",
    "direction_to",
    "hessian_directions",
    "normalize_direction",
    "pca_directions",
    "plane_through",
    "random_directions",
    # slices of the loss
    "check_slice",
    "interpolate",
    "quadratic_model",
    "slice_1d",
    "slice_2d",
    # other maps of a plane
    "convexity_map",
    "gradient_norm_map",
    "persistence",
    # paths of training, and between networks
    "Recorder",
    "barrier",
    "path_losses",
    "project_trajectory",
    "straight_path",
    "train_path",
    # training
    "AdaHessian",
    "NaturalGradient",
    "SharpnessAware",
    "TrainConfig",
    "load_checkpoint",
    "load_run",
    "lookahead",
    "objectives",
    "rules",
    "train",
    # many networks
    "Correlation",
    "NestedSelection",
    "correlate",
    "nested_selection",
    # results
    "BezierPath",
    "BlockSpectra",
    "EigenPairs",
    "Estimate",
    "Map2D",
    "Persistence",
    "Slice1D",
    "Slice2D",
    "SliceBand",
    "SpectralDensity",
    "Trajectory",
]
