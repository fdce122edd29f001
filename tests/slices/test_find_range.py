import math

import pytest
import torch
from torch import nn

from landscape.problem import Problem
from landscape.slices import slice_1d, slice_2d


def bowl(curvature: list[float], loss: float) -> Problem:
    """L = loss + Σ λ_i w_i² / 2, at its minimum."""
    model = nn.Linear(len(curvature), 1, bias=False).double()
    nn.init.zeros_(model.weight)
    scale = torch.tensor(curvature, dtype=torch.float64)
    data = (torch.zeros(1), torch.zeros(1))
    return Problem(
        model, lambda w, _: loss + (scale * w.square()).sum() / 2, data, forward=lambda model, _: model.weight
    )


def along(i: int) -> torch.Tensor:
    return torch.eye(2, dtype=torch.float64)[i]


@pytest.mark.parametrize("loss", [1e-9, 0.3, 1e9])
@pytest.mark.parametrize("curvature", [1.0, 2000.0])
def test_a_quadratic_is_tenfold_where_the_closed_form_says(loss, curvature):
    problem = bowl([curvature, curvature / 100], loss)
    exact = math.sqrt(18 * loss / curvature)
    for surface in (
        slice_2d(problem, along(0), along(1), "auto", (0, 1, 1)),
        slice_2d(problem, along(1), along(0), (0, 1, 1), "auto"),
    ):
        axis = surface.x if len(surface.y) == 1 else surface.y
        assert axis.shape == (51,)
        assert axis[25] == 0
        assert axis[0] == -axis[-1]
        assert float(axis[-1]) == pytest.approx(exact, rel=2 ** (1 / 64) - 1)


def test_one_range_serves_all_lines_and_the_first_to_grow_decides():
    band = slice_1d(bowl([1.0, 9.0], 0.5), torch.eye(2, dtype=torch.float64), "auto")
    assert float(band.x[-1]) == pytest.approx(1.0, rel=0.011)


def test_a_loss_that_is_not_finite_has_grown():
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    for wall in (math.nan, math.inf):
        problem = Problem(
            model,
            lambda w, _, wall=wall: torch.where(w.sum() > 0.37, wall, 1.0),
            (torch.zeros(1), torch.zeros(1)),
            forward=lambda model, _: model.weight,
        )
        line = slice_1d(problem, torch.ones(1).double(), "auto")
        assert float(line.x[-1]) == pytest.approx(0.37, rel=0.011)


@pytest.mark.parametrize(
    ("loss", "message"), [(-1.0, "positive loss at the centre, got -1.0"), (1.0, "grows 10 times")]
)
def test_no_range_is_a_clear_line(loss, message):
    with pytest.raises(ValueError, match=message):
        slice_1d(bowl([0.0, 0.0], loss), along(0), "auto")
    with pytest.raises(ValueError, match="x must be \\(first, last, points\\) or 'auto', got 'wide'"):
        slice_1d(bowl([0.0, 0.0], loss), along(0), "wide")
