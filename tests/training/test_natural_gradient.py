"""The natural gradient against dense matrices, and on Martens' examples."""

import copy
import pickle
from math import isnan, sqrt

import pytest
import torch
import torch.nn.functional as F
from step_cases import data, network, weights
from torch import nn

import landscape as ls
from landscape.training import NaturalGradient
from landscape.training.rules import sam

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(theta):
    """Martens, section 11: f(x, θ) = θ, N(z, 1), datum (0, 0), so that h = θ²/2, F = 1 and the empirical F is θ²."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, theta)
    datum = (torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    return ls.Problem(model, F.mse_loss, datum, forward=lambda model, x: model(x) / sqrt(2))


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.3, 1.9])
def test_martens_example_converges_linearly_by_one_minus_alpha(alpha):
    problem = gaussian(1.5)
    opt = NaturalGradient(problem.model.parameters(), lr=alpha, damping=0.0, adapt=False)
    for k in range(30):
        loss = opt.step(problem)
        assert loss.item() == pytest.approx(0.5 * (1.5 * (1 - alpha) ** k) ** 2, rel=1e-9)
        assert problem.vector().item() == pytest.approx(1.5 * (1 - alpha) ** (k + 1), rel=1e-9)


def test_the_empirical_fisher_matrix_does_not_converge_there():
    """θ ← θ − α θ/θ²: what the exact one is there for."""
    theta = 1.5
    for _ in range(200):
        theta -= 0.5 * theta / ls.fisher(gaussian(theta), "empirical").dense().item()
    assert abs(theta) > 1e-2


def regression(noise, count=6):
    """The same inputs in all batches, other targets in each: one F, and gradients that differ by the targets."""
    x = random(12, 3)
    model = nn.Linear(3, 1, bias=False).double()
    batches = [(x, x @ random(3, 1, seed=1) + noise * random(12, 1, seed=2 + i)) for i in range(count)]
    return model, [ls.Problem(model, F.mse_loss, batch) for batch in batches]


def solution(problem):
    x, y = problem.batches_with_units()[0][:2]
    return torch.linalg.lstsq(x, y).solution[:, 0]


def test_on_a_stochastic_quadratic_falling_steps_give_the_mean_of_all_solutions():
    """lr 1/(k + 1): w is the mean of the batches' minimisers, the efficient estimate; Martens, section 14."""
    model, problems = regression(0.5)
    opt = NaturalGradient(model.parameters(), lr=1.0, damping=0.0, tol=1e-12, adapt=False)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda k: 1 / (k + 1))
    for k, problem in enumerate(problems):
        opt.step(problem)
        schedule.step()
        mean = torch.stack([solution(each) for each in problems[: k + 1]]).mean(0)
        torch.testing.assert_close(weights(model), mean, rtol=1e-8, atol=1e-10)


def test_a_step_does_not_depend_on_linear_coordinates():
    """f(x; A v) = A v · x: v moves to A⁻¹ of where w moves to."""
    model, problems = regression(0.5, 1)
    A = random(3, 3, seed=9)
    other = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        other.weight.copy_(torch.linalg.solve(A, weights(model))[None])
    x, y = problems[0].batches_with_units()[0][:2]
    settings = {"lr": 0.3, "damping": 0.0, "tol": 1e-13, "adapt": False}
    NaturalGradient(model.parameters(), **settings).step(problems[0])
    NaturalGradient(other.parameters(), **settings).step(ls.Problem(other, F.mse_loss, (x @ A, y)))
    torch.testing.assert_close(A @ weights(other), weights(model), rtol=1e-8, atol=1e-10)


def by_hand(problem, w, damping, lr=1.0):
    """δ, and the reduction ratio, with dense matrices."""
    matrix, g = ls.fisher(problem, w=w).dense(), problem.gradient(w)
    delta = -lr * torch.linalg.solve(matrix + damping * torch.eye(len(w), dtype=w.dtype), g)
    return delta, ((problem.loss(w + delta) - problem.loss(w)) / (g @ delta + delta @ matrix @ delta / 2)).item()


@pytest.mark.parametrize("lr", [1.0, 0.3])
@pytest.mark.parametrize("damping", [1e-3, 0.1, 10.0])
def test_steps_and_damping_on_a_network_written_out(lr, damping):
    model, seen = network(), []
    problem = ls.Problem(model, F.cross_entropy, data(count=40))
    opt = NaturalGradient(model.parameters(), lr=lr, damping=damping, tol=1e-12)
    for step in range(8):
        if step == 4:
            problem = ls.Problem(model, F.cross_entropy, data(1, count=40))
        w, loss = weights(model), problem.loss().item()
        delta, ratio = by_hand(problem, w, damping, lr)
        assert opt.step(problem).item() == loss
        g = torch.cat([p.grad.flatten() for p in model.parameters()])
        torch.testing.assert_close(g, problem.gradient(w), **EXACT)
        assert opt.param_groups[0]["reduction_ratio"] == pytest.approx(ratio, rel=1e-5, abs=1e-8)
        torch.testing.assert_close(weights(model), w + delta if ratio > 0 else w, rtol=1e-6, atol=1e-8)
        damping *= 1.5 if ratio < 0.25 else 2 / 3 if ratio > 0.75 else 1
        assert opt.param_groups[0]["damping"] == pytest.approx(damping, rel=1e-12)
        seen.append(ratio)
    if damping == 1e-3 and lr == 1.0:
        assert min(seen) < 0.25


def test_a_step_that_raises_the_loss_is_not_made_and_the_damping_rises():
    """atan(w)² is flat far out: w = 3 would go beyond −3."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 3.0)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    problem = ls.Problem(model, F.mse_loss, (one, zero), forward=lambda model, x: model(x).atan())
    opt = NaturalGradient(model.parameters(), damping=1e-6)
    opt.step(problem)
    assert model.weight.item() == 3.0
    assert opt.param_groups[0]["reduction_ratio"] < 0
    assert opt.param_groups[0]["damping"] == 1.5e-6
    for _ in range(60):
        opt.step(problem)
    assert abs(model.weight.item()) < 1e-6


def test_a_loss_that_is_not_finite_is_not_gone_to():
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 0.1)
    one, target = torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), -5.0, dtype=torch.float64)
    problem = ls.Problem(model, F.mse_loss, (one, target), forward=lambda model, x: model(x).log())
    opt = NaturalGradient(model.parameters(), damping=1e-6)
    opt.step(problem)
    assert model.weight.item() == 0.1
    assert isnan(opt.param_groups[0]["reduction_ratio"])
    assert opt.param_groups[0]["damping"] == 1.5e-6


def test_at_a_minimum_it_stays():
    problem = gaussian(0.0)
    opt = NaturalGradient(problem.model.parameters())
    opt.step(problem)
    assert problem.vector().item() == 0.0
    assert opt.param_groups[0]["damping"] == 1.0


def test_groups_have_their_own_rates_and_others_stay():
    model = network()
    groups = [{"params": model[2].parameters(), "lr": 0.2}, {"params": [model[0].weight]}]
    opt = NaturalGradient(groups, lr=0.5, damping=0.1, adapt=False, tol=1e-12)
    problem = ls.Problem(model, F.cross_entropy, data(count=40))
    own = problem.restricted_to(["0.weight", "2.weight", "2.bias"])
    delta, _ = by_hand(own, own.vector(), 0.1)
    rates = torch.cat([torch.full((20,), 0.5), torch.full((18,), 0.2)]).double()
    expected, bias = own.vector() + rates * delta, model[0].bias.detach().clone()
    opt.step(problem)
    torch.testing.assert_close(own.vector(), expected, rtol=1e-7, atol=1e-9)
    assert torch.equal(model[0].bias, bias)


def run(model, opt, steps):
    for step in steps:
        opt.step(ls.Problem(model, F.cross_entropy, data(step, count=40)))
    return weights(model)


def by_state(pair):
    model, opt = pair
    fresh = network()
    fresh.load_state_dict(model.state_dict())
    other = NaturalGradient(fresh.parameters(), lr=9.0, damping=5.0)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    return fresh, other


@pytest.mark.parametrize("way", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair)), by_state])
def test_a_copy_steps_alike_and_leaves_the_original_alone(way):
    model = network()
    opt = NaturalGradient(model.parameters(), lr=0.5, damping=0.3, products=7)
    run(model, opt, range(3))
    model_2, opt_2 = way((model, opt))
    at = weights(model)
    found = run(model_2, opt_2, range(3, 6))
    assert torch.equal(weights(model), at)
    assert torch.equal(run(model, opt, range(3, 6)), found)


def test_hooks_and_lookahead_work_on_it():
    model, calls = network(), []
    opt = ls.lookahead(NaturalGradient(model.parameters()), k=2, alpha=0.5)
    opt.register_step_post_hook(lambda *_: calls.append(1))
    start = weights(model)
    twin = network()
    run(twin, NaturalGradient(twin.parameters()), range(2))
    torch.testing.assert_close(run(model, opt, range(2)), (start + weights(twin)) / 2, **EXACT)
    assert calls == [1, 1]


def test_what_is_no_batch_of_it_is_named():
    model = network()
    opt = NaturalGradient(model.parameters())
    with pytest.raises(ValueError, match="step needs the batch as a Problem, got function"):
        opt.step(lambda: 0)
    with pytest.raises(ValueError, match="must belong to the problem's model, got 4 of which 0 do"):
        opt.step(ls.Problem(network(), F.cross_entropy, data()))
    with pytest.raises(ValueError, match="got NaturalGradient, which asks a closure"):
        ls.SharpnessAware(opt, sam(), model=model)
