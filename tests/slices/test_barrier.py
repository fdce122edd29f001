import math

import pytest
import torch
from cases import normal, symmetric
from quadratics import quadratic

from landscape.slices import barrier, path_losses, slice_1d, straight_path
from landscape.storage.results import Slice1D


def line(loss, low=-0.5, high=1.5, n=41):
    x = torch.linspace(low, high, n, dtype=torch.float64)
    x[x.abs() < 1e-12] = 0.0
    return Slice1D(x, {"train": loss(x)}, {"train": torch.full_like(x, math.nan)})


def test_a_parabola_over_unequal_ends_has_its_height():
    found = barrier(line(lambda t: 2 + 3 * t + 0.7 * 4 * t * (1 - t)))
    assert found.height == pytest.approx(0.7, rel=1e-12)
    assert found.at == pytest.approx(0.5)


def test_there_is_none_on_a_convex_or_linear_path():
    assert barrier(line(lambda t: (t - 0.3) ** 2)).height == pytest.approx(0.0, abs=1e-15)
    assert barrier(line(lambda t: 5 - t)).height == pytest.approx(0.0, abs=1e-15)


def test_what_lies_outside_of_the_two_networks_does_not_count():
    assert barrier(line(lambda t: torch.where((t < 0) | (t > 1), 100.0, 1.0).double())).height == 0.0


def test_on_a_quadratic_between_its_slopes_it_is_known():
    d = normal(5)
    A = symmetric(torch.tensor([1.0, 2.0, -30.0, 0.5, 3.0]))
    problem = quadratic(A, w=normal(5, seed=1))
    rise = -0.125 * float(d @ A @ d)  # −½ dᵀA d t (1 − t) at t = ½
    assert rise > 0
    along = path_losses(problem, straight_path(problem, problem.vector() + d), 11, progress=False)
    assert barrier(along).height == pytest.approx(rise, rel=1e-10)
    assert barrier(slice_1d(problem, d, (0, 1, 11), progress=False)).height == pytest.approx(rise, rel=1e-10)


def test_nan_and_infinity_are_kept():
    def broken(value):
        return lambda t: torch.where((t > 0.4) & (t < 0.46), value, 1.0).double()

    assert math.isnan(barrier(line(broken(math.nan))).height)
    assert math.isinf(barrier(line(broken(math.inf))).height)
    assert barrier(line(broken(math.inf))).at == pytest.approx(0.45)


def test_a_grid_without_the_ends_and_an_unknown_split_are_named():
    with pytest.raises(ValueError, match="the grid must hold 0 and 1, got"):
        barrier(line(lambda t: t, 0.1, 1.0))
    with pytest.raises(ValueError, match="split must be one of 'train', got 'test'"):
        barrier(line(lambda t: t), "test")
