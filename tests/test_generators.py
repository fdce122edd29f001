"""Every public function that draws refuses a `generator` that is none in one line, whether it draws or not."""

import inspect
import re

import numpy as np
import pytest
import torch
from cases import make
from jaxtyping import config

import landscape as ls
from landscape.interop import cross_check
from landscape.linalg import spectrum_ends

BESIDE = {"cross_check": cross_check.cross_check, "spectrum_ends": spectrum_ends}
PUBLIC = {
    **BESIDE,
    **{f"METRICS {name}": metric for name, metric in ls.METRICS.items()},
    **{f"metrics {name}": getattr(ls.metrics, name) for name in ls.metrics.__all__},
    **{name: getattr(ls, name) for name in ls.__all__},
}
TAKING = [
    name
    for name, function in PUBLIC.items()
    if isinstance(function, ls.metrics.Metric)
    or (callable(function) and not isinstance(function, dict) and "generator" in inspect.signature(function).parameters)
]
OF_OPERATORS = {*dir(ls.linalg)}


def call(name: str, generator: object) -> None:
    problem = make("mlp").problem()
    A, d = ls.MatrixOperator(torch.eye(30).double()), problem.gradient()
    given = {
        "log_determinant": ((A,), {"shift": 1.0}),
        "eigenvalue_count": ((A,), {"above": 0.5}),
        "metrics distance_from_initialisation": ((problem,), {"initial": problem.vector()}),
        "metrics random_corruption": ((problem, [0.1]), {}),
        "metrics m_sharpness_curve": ((problem, [8]), {}),
        "slice_1d": ((problem, d), {}),
        "slice_2d": ((problem, d, d.flip(0)), {}),
        "interpolate": ((problem, d), {}),
        "path_losses": ((problem, [problem.vector()]), {}),
        "train_path": ((problem, d), {}),
        "Tracker": ((problem,), {"every": 1}),
    }.get(name, ((A,) if name in OF_OPERATORS else (problem,), {}))
    args, settings = given
    PUBLIC[name](*args, **settings, generator=generator)


@pytest.fixture
def unchecked():
    """As users have it: without the tests' type checker, which would refuse first."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", TAKING)
def test_a_wrong_generator_is_refused_in_one_line(name):
    for wrong, kind, seed in ((7, "int", 7), (np.random.default_rng(3), "Generator", 0), ("cpu", "str", 0)):
        said = f"generator must be a torch.Generator or None, got {kind}; pass torch.Generator().manual_seed({seed})"
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            call(name, wrong)


def test_all_that_draw_are_here():
    assert len(TAKING) >= 80
