from math import exp

import pytest
import torch
from cases import make
from torch import nn
from torch.nn import functional as F

from landscape.metrics import margin, spectral_norms
from landscape.problem import Problem


def identity(logits: torch.Tensor, targets: torch.Tensor, scale: float = 1.0) -> Problem:
    """A linear network whose outputs are scale times its inputs."""
    model = nn.Linear(logits.shape[1], logits.shape[1], bias=False).double()
    nn.init.eye_(model.weight).data.mul_(scale)
    return Problem(model, F.cross_entropy, [(logits, targets)])


def test_percentiles_of_known_margins() -> None:
    lead = torch.arange(11).double() - 2  # margins −2, −1, ..., 8
    logits = torch.stack([lead, torch.zeros(11).double(), torch.full((11,), -50.0).double()], dim=1)
    problem = identity(logits - 20, torch.zeros(11).long())  # all below 0: only differences count
    assert [margin(problem, percentile=p).value.item() for p in (0, 10, 50, 100)] == [-2, -1, 3, 8]
    assert margin(problem).details["accuracy"] == pytest.approx(8 / 11)


def test_the_normalised_margin_does_not_see_the_scale_of_a_layer() -> None:
    logits, targets = torch.eye(4).double() * 3, torch.arange(4)
    found = [margin(identity(logits, targets, c), normalized=True).value.item() for c in (1.0, 7.0)]
    assert found == pytest.approx([3, 3])
    problem = make("mlp").problem()
    product = exp(spectral_norms(problem).value.item() / 2)
    plain, normalised = margin(problem).value, margin(problem, normalized=True).value
    assert normalised.item() == pytest.approx(plain.item() / product, rel=1e-9)


@pytest.mark.parametrize("name", ["regression", "bce"])
def test_only_for_classes(name: str) -> None:
    with pytest.raises(ValueError, match=r"margins need outputs \(n, C\) and integer targets \(n,\)"):
        margin(make(name).problem())


def test_percentile_in_range() -> None:
    with pytest.raises(ValueError, match=r"percentile must be in \[0, 100\], got 101"):
        margin(make("mlp").problem(), percentile=101)
