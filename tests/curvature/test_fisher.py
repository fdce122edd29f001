from functools import partial
from math import prod

import oracles
import pytest
import torch
from cases import NAMES, make, seeded
from torch import nn
from torch.nn import functional as F

from landscape.curvature import fisher, ggn
from landscape.problem import Problem

SEEDS = 100


def test_martens_known_answer():
    """One datum 0 under N(w, 1): the Fisher matrix is 1, the empirical one w²."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 3.0)
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    problem = Problem(model, lambda z, t: 0.5 * (z - t).square().mean(), (x, y))
    assert fisher(problem).dense().item() == 1
    assert fisher(problem, "empirical").dense().item() == 9


@pytest.mark.parametrize("name", ["mlp", "conv_bn", "bce", "tokens"])
def test_the_exact_fisher_is_the_gauss_newton_matrix(name):
    problem = make(name).problem()
    assert oracles.relative(fisher(problem).dense(), ggn(problem).dense()) < 1e-14


@pytest.mark.parametrize("name", [name for name in NAMES if name != "weight_term"])
def test_the_empirical_fisher_is_the_mean_over_single_samples(name):
    case = make(name)
    assert oracles.relative(fisher(case.problem(), "empirical").dense(), oracles.empirical_fisher(case)) < 1e-9


@pytest.mark.parametrize("name", ["mlp", "regression", "bce"])
def test_the_sampled_fisher_averages_to_the_exact_one(name):
    problem = make(name).problem(parameters=["2.weight"])
    exact = fisher(problem).dense()
    draws = torch.stack([fisher(problem, "sampled", generator=seeded(i)).dense() for i in range(SEEDS)])
    error = (draws.mean(0) - exact).abs()
    stderr = draws.std(0) / SEEDS**0.5
    assert (error <= 4 * stderr + 1e-15).all()
    assert stderr.max() < 0.1 * exact.max()


@pytest.mark.parametrize("shape", [(64,), (64, 2, 3)])
def test_mean_squared_error_of_any_shape_is_sampled_at_its_own_scale(shape):
    torch.manual_seed(0)
    model = nn.Linear(4, prod(shape[1:]))
    case = make("regression")
    problem = Problem(
        model.double(),
        F.mse_loss,
        (case.inputs, torch.zeros(shape, dtype=torch.float64)),
        forward=lambda m, x: m(x).reshape(-1, *shape[1:]),
        parameters=["bias"],
    )
    exact = fisher(problem).dense()
    draws = torch.stack([fisher(problem, "sampled", generator=seeded(i)).dense() for i in range(SEEDS)])
    assert ((draws.mean(0) - exact).abs() <= 4 * draws.std(0) / SEEDS**0.5 + 1e-15).all()


def test_ignored_samples_are_not_sampled():
    torch.manual_seed(0)
    case = make("mlp")
    targets = torch.where(torch.arange(64) % 3 == 0, -5, case.targets)
    inputs = torch.where(targets[:, None] == -5, 100 * case.inputs, case.inputs)  # saturated: they would lower the mean
    settings = {"weight": lambda _, t: (t != -5).sum(), "parameters": ["bias"]}
    some = Problem(nn.Linear(4, 3).double(), partial(F.cross_entropy, ignore_index=-5), (inputs, targets), **settings)
    exact = fisher(some).dense()
    draws = torch.stack([fisher(some, "sampled", generator=seeded(i)).dense() for i in range(SEEDS)])
    assert ((draws.mean(0) - exact).abs() <= 4 * draws.std(0) / SEEDS**0.5).all()


@pytest.mark.parametrize("name", ["mlp", "regression", "bce"])
def test_targets_are_drawn_once_for_an_operator(name):
    problem = make(name).problem()
    one, other = (fisher(problem, "sampled", generator=seeded(i)) for i in (1, 2))
    v = one.w.cos()
    assert torch.equal(one @ v, one @ v)
    assert torch.equal(one @ v, fisher(problem, "sampled", generator=seeded(1)) @ v)
    assert oracles.relative(other @ v, one @ v) > 1e-3
    dense = one.dense()
    torch.testing.assert_close(dense, dense.T, rtol=1e-12, atol=1e-14)
    assert torch.linalg.eigvalsh(dense).min() > -1e-12


def test_each_batch_has_draws_of_its_own():
    case = make("mlp")
    once, twice = (fisher(case.problem(data=[case.batches[0]] * n), "sampled") for n in (1, 2))
    assert oracles.relative(twice.dense(), once.dense()) > 1e-3


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (F.nll_loss, "needs cross entropy, MSE or BCE with logits, got <function nll_loss"),
        (
            nn.L1Loss(),
            r"needs cross entropy, MSE or BCE with logits, got L1Loss\(\); say what it is by likelihood=",
        ),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), r"needs unweighted classes, got \['weight'\]; use kind='exact'"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), r"needs unweighted classes, got \['pos_weight'\]"),
        (nn.MSELoss(reduction="sum"), "criterion must be the mean .* got reduction='sum'"),
        (partial(F.cross_entropy, reduction="sum"), "criterion must be the mean .* got reduction='sum'"),
    ],
)
def test_other_criteria_cannot_be_sampled(criterion, message):
    case = make("mlp")
    with pytest.raises(ValueError, match=message):
        fisher(Problem(case.model, criterion, case.batches), "sampled")


def test_each_token_is_a_draw_of_its_own():
    case = make("tokens")
    data = [(x, t.clamp(min=0)) for x, t in case.batches]
    apart = Problem(case.model, F.cross_entropy, data, forward=lambda model, x: model(x).transpose(1, 2))
    flat = Problem(
        case.model,
        F.cross_entropy,
        [(x, t.flatten()) for x, t in data],
        forward=lambda model, x: model(x).flatten(0, 1),
    )
    v = apart.vector().cos()
    assert oracles.relative(fisher(apart, "sampled") @ v, fisher(flat, "sampled") @ v) < 1e-12


def test_the_kind_is_checked():
    with pytest.raises(ValueError, match=r"kind must be one of 'exact' .* got 'true'"):
        fisher(make("mlp").problem(), "true")
