import math

import pytest
import torch
from cases import make, normal, seeded
from torch import nn

from landscape.problem import Problem
from landscape.slices import random_directions, slice_1d
from landscape.slices.evaluation.subset import GROUPS, standard_error, subsample


def values(n: int) -> Problem:
    """A loss that is the mean of n numbers, in unequal batches, plus the one weight."""
    numbers, targets = normal(n, 1).exp(), torch.arange(n)
    data = list(zip(numbers.split(19), targets.split(19), strict=True))
    model = nn.Linear(1, 1, bias=False).double()
    return Problem(model, lambda z, _: z.mean(), data, forward=lambda model, x: x + model.weight)


def centre(problem: Problem, subset: int, seed: int = 0) -> tuple[float, float]:
    found = slice_1d(problem, torch.ones(1).double(), (0.0, 1.0, 2), subset=subset, generator=seeded(seed))
    return float(found.loss["train"][0] - problem.vector()[0]), float(found.loss_stderr["train"][0])


@pytest.mark.parametrize("n", [2, 5, GROUPS])
def test_the_standard_error_is_that_of_the_mean_over_samples_without_replacement(n):
    problem = values(50)
    chosen = torch.randperm(50, generator=seeded())[:n]
    own = torch.cat([x for x, _ in problem.data])[chosen, 0]
    loss, stderr = centre(problem, n)
    assert loss == pytest.approx(float(own.mean()), rel=1e-12)
    assert stderr == pytest.approx(float(own.std()) / math.sqrt(n) * math.sqrt(1 - n / 50), rel=1e-9)


def test_the_mean_of_its_square_is_the_variance_of_the_mean():
    problem, n, draws = values(120), 50, 100
    numbers = torch.cat([x for x, _ in problem.data])
    found = []
    for seed in range(draws):
        own, share = subsample(problem, n, seeded(seed))
        losses, units = [x.mean() for x, _ in own.data], [float(len(x)) for x, _ in own.data]
        mean = sum(u * loss for u, loss in zip(units, losses, strict=True)) / n
        found.append([float(mean), standard_error(losses, units, share)])
    found = torch.tensor(found, dtype=torch.float64)
    exact = float(numbers.var()) / n * (1 - n / 120)
    variance = found[:, 1].square()
    assert abs(variance.mean() - exact) < 4 * variance.std() / math.sqrt(draws)
    assert abs(found[:, 0].mean() - numbers.mean()) < 4 * math.sqrt(exact / draws)


def test_units_weigh_in_the_standard_error():
    case = make("class_weights")
    problem = case.problem()
    found = slice_1d(problem, normal(problem.size), (0.0, 1.0, 2), subset=20, generator=seeded(3))
    chosen = torch.randperm(64, generator=seeded(3))[:20]
    with torch.no_grad():
        x, t = case.inputs[chosen], case.targets[chosen]
        losses = nn.functional.cross_entropy(case.model.eval()(x), t, reduction="none")
    u = case.criterion.weight[t]
    mean = (u * losses).sum() / u.sum()
    variance = (u * (losses - mean)).square().sum() / u.sum() ** 2 * 20 / 19 * (1 - 20 / 64)
    torch.testing.assert_close(found.loss["train"][0], mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.loss_stderr["train"][0], variance.sqrt(), rtol=1e-9, atol=0)
    assert found.details["units"]["train"] == pytest.approx(float(u.sum()))


@pytest.mark.parametrize("name", ["mapping", "tokens", "conv_bn"])
def test_a_subset_is_the_same_at_all_points_and_a_seed_is_a_subset(name):
    problem = make(name).problem()
    (d,) = random_directions(problem, 1)
    one, same, other = (slice_1d(problem, d, (0.0, 1e-9, 4), subset=9, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one.loss["train"], same.loss["train"])
    assert (
        (one.loss["train"] - one.loss["train"][0]).abs().max()
        < 1e-6
        < (one.loss["train"] - other.loss["train"]).abs().min()
    )


def test_all_the_data_has_no_error_and_the_models_own_loss():
    problem = values(20)
    found = slice_1d(
        problem, torch.ones(1).double(), (0.0, 1.0, 3), {"train": problem.data, "few": problem.data[:1]}, subset=20
    )
    assert found.loss_stderr["train"].tolist() == [0.0] * 3
    torch.testing.assert_close(found.loss["train"][0], problem.loss(), rtol=1e-14, atol=0.0)
    assert found.details["subset"] == {"train": 1.0, "few": 1.0}
    assert slice_1d(problem, torch.ones(1).double(), (0.0, 1.0, 3)).loss_stderr == {}


def test_what_cannot_be_drawn_from_is_named():
    problem = make("conv_bn").problem(batch_norm="batch")
    with pytest.raises(ValueError, match="subset= needs batch_norm 'eval' or 'recompute'"):
        slice_1d(problem, problem.vector(), subset=3)
    ragged = Problem(
        nn.Linear(1, 1),
        lambda z, _: z.mean(),
        [(torch.ones(2, 3, 1), torch.ones(2)), (torch.ones(2, 4, 1), torch.ones(2))],
    )
    with pytest.raises(ValueError, match="subset= needs samples of one shape, got"):
        slice_1d(ragged, ragged.vector(), subset=3)
    with pytest.raises(ValueError, match="subset must be an integer at least 1, got 0"):
        slice_1d(values(5), torch.ones(1).double(), subset=0)
