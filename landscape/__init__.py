"""The geometry of trained neural networks: Hessian spectra, sharpness and loss landscapes.

import landscape as ls

problem = ls.Problem(model, criterion, data)        # a scalar function of one vector
pairs = ls.top_eigenpairs(ls.hessian(problem), k=10)
"""

from importlib.metadata import version

from landscape import metrics
from landscape.analysis import analyze
from landscape.curvature import fisher, ggn, hessian, hessian_blocks
from landscape.linalg import diagonal, spectral_density, top_eigenpairs, trace
from landscape.metrics import METRICS
from landscape.operator import CurvatureOperator, MatrixOperator
from landscape.problem import Problem
from landscape.results import EigenPairs, Estimate, Slice1D, Slice2D, SpectralDensity
from landscape.slices import random_directions, slice_1d, slice_2d
from landscape.study import Correlation, correlate
from landscape.training import SharpnessAware, TrainConfig, load_checkpoint, rules, train

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
    "diagonal",
    "spectral_density",
    "top_eigenpairs",
    "trace",
    # sharpness
    "METRICS",
    "analyze",
    "metrics",
    # slices of the loss
    "random_directions",
    "slice_1d",
    "slice_2d",
    # training
    "SharpnessAware",
    "TrainConfig",
    "load_checkpoint",
    "rules",
    "train",
    # many networks
    "Correlation",
    "correlate",
    # results
    "EigenPairs",
    "Estimate",
    "Slice1D",
    "Slice2D",
    "SpectralDensity",
]
