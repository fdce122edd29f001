"""Plots that are right, and plots each with one of the mistakes that people make."""

import math
from dataclasses import replace
from functools import partial

import drawings
import pytest
import torch
from cases import make, normal
from torch import nn
from torch.nn import functional as F

from landscape.problem import Problem
from landscape.slices import check_slice, random_directions, slice_2d
from landscape.slices.findings import angle, finite, growth, lengths, lowest, own_data, ruggedness

plane = partial(drawings.plane, norms=(1.0, 1.0))


def bowl(x, y):
    return 0.1 + x**2 + y**2


def sliced(name: str = "mlp", **settings):
    """A problem, its plane and the directions; two splits."""
    case = make(name)
    problem = case.problem(**settings)
    data = {"train": case.batches, "test": case.batches[1:]}
    d1, d2 = random_directions(problem)
    return problem, slice_2d(problem, d1, d2, (-1, 1, 5), (-0.5, 0.5, 3), data, progress=False), d1, d2, data


def of(check, name: str) -> list[bool]:
    return [finding.ok for finding in check.findings if finding.name == name]


# ------------------------------------------------------- against the network


@pytest.mark.parametrize("name", ["mlp", "conv_bn", "tokens", "mapping"])
def test_a_slice_as_it_was_made_is_right(name):
    problem, found, d1, d2, data = sliced(name)
    before = {key: value.clone() for key, value in problem.model.state_dict().items()}
    flags = [module.training for module in problem.model.modules()]
    check = check_slice(problem, found, d1, d2, data)
    assert of(check, "centre") == of(check, "again") == [True, True]
    assert "the same, bit for bit" in str(check)
    assert all(torch.equal(value, before[key]) for key, value in problem.model.state_dict().items())
    assert [module.training for module in problem.model.modules()] == flags


def test_the_star_is_compared_with_a_loop_over_the_model():
    problem, found, d1, d2, data = sliced()
    inputs, targets = (torch.cat(parts) for parts in zip(*data["train"], strict=True))
    own = float(F.cross_entropy(problem.model.eval()(inputs), targets).detach())
    first = check_slice(problem, found, d1, d2, data).findings[0]
    assert first.value == pytest.approx(abs(own - float(found.loss["train"][1, 2])), abs=1e-14)
    assert f"the model's own loss is {own:.6g}" in first.words


def test_other_weights_directions_and_data_are_seen():
    problem, found, d1, d2, data = sliced()
    other = check_slice(problem, found, d2, d1, data)
    assert (of(other, "centre"), of(other, "again")) == ([True, True], [False, False])
    swapped = check_slice(problem, found, d1, d2, {"train": data["test"], "test": data["train"]})
    assert of(swapped, "centre") == of(swapped, "again") == [False, False]
    with torch.no_grad():
        problem.model[0].weight.add_(1e-3)
    moved = check_slice(problem, found, d1, d2, data)
    assert of(moved, "centre") == [False, False]
    assert not moved.ok


def test_a_transposed_grid_is_seen():
    problem, _, d1, d2, data = sliced()
    square = slice_2d(problem, d1, d2, (-1, 1, 5), (-1, 1, 5), data, progress=False)
    turned = replace(square, loss={name: own.T.contiguous() for name, own in square.loss.items()})
    check = check_slice(problem, turned, d1, d2, data)
    assert (of(check, "centre"), of(check, "again")) == ([True, True], [False, False])


def test_a_gap_is_right_where_the_loss_is_none():
    problem, found, d1, d2, data = sliced()
    found.loss["train"][1, 0] = math.nan
    assert of(check_slice(problem, found, d1, d2, data), "again") == [False, True]
    broken = Problem(problem.model, lambda z, t: F.cross_entropy(z, t) * math.nan, data["train"])
    gaps = slice_2d(broken, d1, d2, (-1, 1, 3), (-1, 1, 3), progress=False)
    check = check_slice(broken, gaps, d1, d2)
    assert (of(check, "again"), of(check, "finite")) == ([True], [False])


def test_a_loss_on_a_subset_may_differ_by_its_standard_error():
    problem, found, d1, d2, data = sliced()
    shifted = {name: own + 0.01 for name, own in found.loss.items()}
    for stderr, right in ((0.0, False), (0.003, True)):
        errors = {name: torch.full_like(own, stderr) for name, own in shifted.items()}
        check = check_slice(problem, replace(found, loss=shifted, loss_stderr=errors), d1, d2, data)
        assert of(check, "centre") == of(check, "again") == [right, right]


def test_a_grid_beside_the_network_is_named():
    problem, _, d1, d2, data = sliced()
    beside = slice_2d(problem, d1, d2, (-1, 1, 4), (-1, 1, 3), data, progress=False)
    check = check_slice(problem, beside, d1, d2, data)
    assert (of(check, "centre"), of(check, "again")) == ([False, False], [True, True])
    assert "an odd number of points" in str(check)


def test_wrong_arguments_are_named():
    problem, found, d1, d2, _ = sliced()
    with pytest.raises(ValueError, match="data must hold the splits train, test, got train"):
        check_slice(problem, found, d1, d2)


# ----------------------------------------------------------------- BatchNorm


def normalised(shift: float) -> tuple[Problem, torch.Tensor]:
    """Stored statistics that are those of the data, moved by `shift` standard deviations."""
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for index, p in enumerate(model.parameters()):
            p.copy_(normal(*p.shape, seed=index))
        inputs = normal(200, 4, seed=9)
        mean, variance = (hidden := model[0](inputs)).mean(0), hidden.var(0)
        model[1].running_mean.copy_(mean + shift * variance.sqrt())
        model[1].running_var.copy_(variance)
    return Problem(model, F.cross_entropy, (inputs, torch.arange(200) % 3)), inputs


@pytest.mark.parametrize(("shift", "reach", "right"), [(0.0, 0.1, True), (1.0, 0.1, False), (0.0, 20.0, False)])
def test_statistics_of_other_weights_are_seen(shift, reach, right):
    problem, _ = normalised(shift)
    d1, d2 = random_directions(problem, ignore=None)
    found = slice_2d(problem, d1, d2, (-reach, reach, 3), (-reach, reach, 3), progress=False)
    check = check_slice(problem, found, d1, d2)
    (finding,) = [own for own in check.findings if own.name == "batchnorm"]
    assert finding.ok == right
    assert ("recompute" in finding.words) != right
    if shift:
        assert finding.value == pytest.approx((1 + shift**2) ** 0.5, rel=1e-4)
        assert "the inputs of 1 are 1.4 times" in finding.words


def test_statistics_that_are_recomputed_are_named():
    problem, found, d1, d2, data = sliced("conv_bn", batch_norm="recompute")
    check = check_slice(problem, found, d1, d2, data)
    assert of(check, "again") == [True, True]
    assert of(check, "centre") == [True, False]  # off by a few per cent, and by more
    assert "with batch_norm='recompute'; say so in the caption" in str(check)


# --------------------------------------------------------- from the grid alone


def test_a_bowl_has_no_faults():
    found = plane(bowl)
    findings = [check(found, "train") for check in (finite, growth, lowest, ruggedness)] + [
        angle(found),
        lengths(found),
    ]
    assert all(finding.ok for finding in findings)
    assert lowest(found, "train").value == 0.0
    assert growth(found, "train").value == pytest.approx(
        float(torch.cat([found.loss["train"][[0, -1]].flatten(), found.loss["train"][:, [0, -1]].flatten()]).median())
        / 0.1
    )


def test_rows_that_are_one_cell_off_are_seen():
    """The defect of peers: alternate rows walked from the other end and stored one cell off."""
    shear = plane(lambda x, y: 1 + x + 0 * y)
    shear.loss["train"][1::2] = 1 + shear.x + 0.25
    finding = ruggedness(shear, "train")
    assert not finding.ok
    assert "along y" in finding.words
    assert ruggedness(plane(lambda x, y: 1 + x + 0 * y), "train").ok


def test_noise_is_measured():
    noise = 0.05 * normal(41, 41)
    found = plane(lambda x, y: 3 + x + y + noise, nx=41, ny=41)
    finding = ruggedness(found, "train")
    span = float(found.loss["train"].max() - found.loss["train"].min())
    assert finding.value * span == pytest.approx(0.05, rel=0.15)
    assert not finding.ok


@pytest.mark.parametrize(
    "surface",
    [
        lambda x, y: (x + 2 * y).abs(),  # a kink
        lambda x, y: torch.exp(300 * x + 400 * y),  # up to 1e304
        lambda x, y: torch.where(x > 0.5, torch.inf, bowl(x, y)),
        lambda x, y: 0 * x + 1,
        lambda x, y: x * math.nan,
    ],
)
def test_what_is_steep_kinked_or_gapped_is_not_called_rugged(surface):
    assert ruggedness(plane(surface), "train").ok


def test_a_range_that_shows_nothing_is_seen():
    flat = growth(plane(lambda x, y: 1 + 0.1 * bowl(x, y)), "train")
    assert not flat.ok
    assert "walk further" in flat.words
    spike = growth(plane(lambda x, y: torch.where(x**2 + y**2 > 1e-9, 5.0, 0.1)), "train")
    assert not spike.ok
    assert "100% of the typical rise is within one step" in spike.words
    assert growth(plane(lambda x, y: bowl(x, y) - 1), "train").ok  # no factor of a negative loss


def test_gaps_angles_lengths_and_lower_points_are_told():
    gaps = finite(plane(lambda x, y: torch.where(x > 0.99, math.nan, bowl(x, y))), "train")
    assert (gaps.ok, gaps.value) == (False, pytest.approx(1 / 9))
    slanted = angle(plane(bowl, cosine=-0.5))
    assert (slanted.ok, slanted.value) == (False, -0.5)
    longer = lengths(plane(bowl, norms=(1.0, 10.0)))
    assert (longer.ok, longer.value) == (False, 10.0)
    found = plane(bowl)
    found.loss["test"] = found.loss["train"].clone()
    same = own_data(found)
    assert (same.ok, same.value) == (False, 0.0)
    assert "train and test have the same loss at every point" in same.words
    found.loss["test"][0, 0] += 1
    assert (own_data(found).ok, own_data(found).value) == (True, pytest.approx(1.0))
    below = lowest(plane(lambda x, y: 2 - x), "train")
    assert (below.ok, below.value) == (True, 1.0)
    assert "(1, -1) is lowest" in below.words
