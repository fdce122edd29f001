"""Messages about slices name what is the matter."""

import math

import pytest
import torch
from cases import make
from torch import nn
from torch.nn import functional as F

from landscape.problem import Problem
from landscape.slices import check_slice, random_directions, slice_1d, slice_2d


class LoRA(nn.Module):
    """A frozen layer and its adapter, B = 0 as at the start of training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3).requires_grad_(False)
        self.A, self.B = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.zeros(3, 2))

    def forward(self, x):
        return self.layer(x) + x @ self.A.T @ self.B.T


def lora(**settings) -> Problem:
    torch.manual_seed(0)
    return Problem(LoRA(), F.cross_entropy, (torch.randn(12, 4), torch.randint(3, (12,))), **settings)


def test_an_automatic_range_over_an_adapter_that_does_nothing() -> None:
    problem = lora()
    with pytest.raises(ValueError, match=r"it is \S+ everywhere: nothing .* as LoRA's B, .* normalize='model'$"):
        slice_1d(problem, random_directions(problem)[0], "auto")
    found = slice_1d(problem, random_directions(problem, normalize="model")[0], "auto", progress=False)
    assert float(found.loss["train"].max()) > 5 * float(problem.loss())


def test_a_flat_plane_is_not_told_to_walk_further() -> None:
    problem = lora()
    d1, d2 = random_directions(problem)
    found = slice_2d(problem, d1, d2, (-1.0, 1.0, 3), (-1.0, 1.0, 3), progress=False)
    words = str(check_slice(problem, found, d1, d2))
    assert "LOOK  range" in words
    assert "everywhere: nothing that it depends on moves" in words
    assert "walk further" not in words


@pytest.mark.parametrize("normalize", ["filter", "layer", "model"])
def test_weights_of_norm_zero_have_no_normalised_direction(normalize: str) -> None:
    problem = lora(parameters=["B"])
    with pytest.raises(ValueError, match=r"which are all 0 where it may move \(as LoRA's B .*; pass normalize=None"):
        random_directions(problem, normalize=normalize)
    assert random_directions(problem, normalize=None)[0].norm() > 0


def test_a_loss_that_is_not_finite_right_beside_the_network() -> None:
    case = make("mlp")
    w = case.problem().vector()

    def criterion(z, y):
        moved = not torch.equal(torch.cat([p.flatten() for p in case.model.parameters()]), w)
        return F.cross_entropy(z, y) * (math.nan if moved else 1.0)

    problem = Problem(case.model, criterion, case.batches)
    with pytest.raises(ValueError, match=r"that has grown, or is NaN or infinite, at 9e-10 already"):
        slice_1d(problem, torch.ones_like(w), "auto")


def test_a_loss_that_falls_everywhere_is_still_told_how_far_was_looked() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    problem = Problem(
        model, lambda w, _: 1 / (1 + w.square().sum()), (torch.zeros(1), torch.zeros(1)), forward=lambda m, _: m.weight
    )
    with pytest.raises(ValueError, match=r"got none up to 1\.07374e\+09; give"):
        slice_1d(problem, torch.ones(1).double(), "auto")
