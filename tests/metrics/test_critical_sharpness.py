"""λ_c against g·Hg / g·g of quadratics, roots of polynomials, and the step that an optimiser really makes."""

from math import inf, nan

import numpy as np
import pytest
import torch
from cases import everything, make, normal, same, symmetric
from quadratics import quadratic
from torch import nn
from torch.nn import functional as F

import landscape as ls
from landscape.curvature.critical_step import Bracket, bracket, next_update
from landscape.metrics import critical_sharpness
from landscape.problem.cost import FORWARD

A, B, W = symmetric(torch.linspace(-1, 5, 12)), normal(12), normal(12, seed=1)
SPECTRUM = symmetric(torch.linspace(0.1, 5, 12))


def holds(found, exact):
    return found.details["low"] <= exact <= found.details["high"]


def test_along_the_gradient_of_a_quadratic_it_is_the_curvature_there():
    g = SPECTRUM @ W + B
    exact = float(g @ SPECTRUM @ g / (g @ g))
    fine = critical_sharpness(quadratic(SPECTRUM, B, W), tol=1e-9)
    assert fine.value.item() == pytest.approx(exact, rel=1e-8)
    rough = critical_sharpness(quadratic(SPECTRUM, B, W))
    assert holds(rough, exact)
    assert rough.details["high"] <= 1.05 * rough.details["low"]
    assert rough.value.item() == pytest.approx(2 / rough.details["eta"])
    assert float(rough.value) < 5


def test_it_is_the_smallest_root_of_a_polynomial():
    w, g = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([1.0, 2.0, 3.0]).double()
    model = nn.ParameterDict({"w": nn.Parameter(w.clone())})
    x = torch.zeros(1, 1)

    def loss(_outputs, _targets):
        return (model["w"] ** 4).sum() / 4 - (g * model["w"]).sum()

    problem = ls.Problem(model, loss, (x, x), forward=lambda model, x: model["w"])
    slope = w**3 - g
    change = sum(np.polynomial.Polynomial([float(a), -float(d)]) ** 4 / 4 for a, d in zip(w, slope, strict=True))
    change += np.polynomial.Polynomial([-float(g @ w), float(g @ slope)])
    roots = (change - change(0)).roots()
    eta = min(root.real for root in roots if abs(root.imag) < 1e-9 and root.real > 1e-9)
    assert critical_sharpness(problem, tol=1e-9).value.item() == pytest.approx(2 / eta, rel=1e-8)


def test_along_another_update_it_is_its_curvature_over_its_slope():
    update, g = SPECTRUM @ normal(12, seed=3), SPECTRUM @ W + B
    update = update * (update @ g).sign()
    exact = float(update @ SPECTRUM @ update / (update @ g))
    found = critical_sharpness(quadratic(SPECTRUM, B, W), update=update, tol=1e-9)
    assert found.value.item() == pytest.approx(exact, rel=1e-8)


def test_between_two_losses_the_first_one_gives_the_direction():
    first, second = quadratic(A, B, W), quadratic(SPECTRUM, B + 0.1 * normal(12, seed=4), W)
    g, other = A @ W + B, SPECTRUM @ W + B + 0.1 * normal(12, seed=4)
    exact = float(g @ SPECTRUM @ g / (g @ other))
    assert exact > 0
    assert critical_sharpness(second, along=first, tol=1e-9).value.item() == pytest.approx(exact, rel=1e-8)
    same_one = critical_sharpness(second, along=second)
    assert same_one.value == critical_sharpness(second).value


@pytest.mark.parametrize("factor", [1e-6, 0.02, 0.97, 3.0, 1e6])
def test_from_any_start_the_bracket_holds_it(factor):
    g = SPECTRUM @ W + B
    exact = float(g @ SPECTRUM @ g / (g @ g))
    found = critical_sharpness(quadratic(SPECTRUM, B, W), update=g, start=2 / exact * factor)
    assert holds(found, exact)
    assert found.gradient_times == pytest.approx(FORWARD * found.details["passes"])  # no gradient


def test_near_its_place_it_takes_seven_passes():
    g = SPECTRUM @ W + B
    eta = 2 * float(g @ g / (g @ SPECTRUM @ g))
    assert critical_sharpness(quadratic(SPECTRUM, B, W), update=g, start=0.9 * eta).details["passes"] <= 7


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
        (torch.optim.AdamW, {"lr": 1e-3}),
        (torch.optim.RMSprop, {"lr": 1e-3}),
    ],
)
def test_the_update_of_an_optimiser_is_the_step_that_it_makes(kind, settings):
    case = make("mlp")
    optimizer = kind(case.model.parameters(), **settings)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # which wraps optimizer.step

    def steps(times):
        for _ in range(times):
            optimizer.zero_grad()
            F.cross_entropy(case.model(case.inputs), case.targets).backward()
            optimizer.step()

    steps(3)
    problem, before = case.problem(), everything(case.model)
    kept = repr(optimizer.state_dict())
    w, update = problem.vector(), next_update(problem, optimizer, problem.gradient())
    found = critical_sharpness(problem, optimizer=optimizer)
    assert same(everything(case.model), before)
    assert repr(optimizer.state_dict()) == kept
    assert found.value == critical_sharpness(problem, update=update).value
    steps(1)
    assert torch.allclose(w - settings["lr"] * update, problem.vector(), rtol=1e-10, atol=1e-14)


def test_a_small_step_of_a_float32_network_keeps_its_digits():
    model = make("mlp").model.float()
    case = make("mlp")
    problem = ls.Problem(model, F.cross_entropy, (case.inputs.float(), case.targets))
    g = problem.gradient()
    update = next_update(problem, torch.optim.SGD(model.parameters(), lr=1e-6), g)
    assert torch.allclose(update, g, rtol=1e-6, atol=1e-9)


def test_a_step_of_it_more_or_less_raises_or_lowers_the_loss():
    case = make("mlp")
    problem = case.problem()
    found = critical_sharpness(problem, optimizer=torch.optim.SGD(case.model.parameters(), lr=0.1), tol=1e-6)
    w, g, eta = problem.vector(), problem.gradient(), found.details["eta"]
    assert problem.loss(w - 0.999 * eta * g) < problem.loss() < problem.loss(w - 1.001 * eta * g)


def linear():
    return quadratic(torch.zeros(12, 12).double(), B, W)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: critical_sharpness(quadratic(A)), "stationary point"),
        (lambda: critical_sharpness(linear()), "never|does not rise along the update up to .* below"),
        (lambda: critical_sharpness(quadratic(A, B, W), update=-(A @ W + B)), "downhill"),
        (lambda: critical_sharpness(quadratic(A, B, W), update=-(A @ W + B), start=0.1), "must fall"),
        (lambda: critical_sharpness(quadratic(A, B, W * inf)), "loss is (nan|inf)"),
        (lambda: critical_sharpness(quadratic(A, B, W), update=B, along=quadratic(A)), "given alone"),
        (lambda: critical_sharpness(quadratic(A, B, W), along=quadratic(A[:3, :3])), "same parameters"),
        (lambda: critical_sharpness(quadratic(A, B, W), tol=0.0), "tol must be positive"),
        (lambda: critical_sharpness(quadratic(A, B, W), update=B[:3]), "update must be"),
        (lambda: critical_sharpness(quadratic(A, B, W), start=-1.0), "start must be positive"),
    ],
)
def test_what_cannot_be_said_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_an_optimiser_that_cannot_serve_is_refused():
    problem = quadratic(A, B, W)
    for optimizer, words in (
        (torch.optim.SGD([nn.Parameter(B)], lr=0.1), "weight it does not"),
        (torch.optim.SGD(problem.model.parameters(), lr=0.0), "learning rate above 0"),
        (torch.optim.LBFGS(problem.model.parameters()), "without a closure"),
    ):
        with pytest.raises(ValueError, match=words):
            critical_sharpness(problem, optimizer=optimizer)


def test_a_change_within_rounding_decides_nothing():
    def parabola(eta):
        return eta * (eta - 1)  # down to -1/4, its root 1

    found = bracket(parabola, 0.3, 1e-9, 0.1)
    assert found.fallen < 1 < found.risen
    assert min(-parabola(found.fallen), parabola(found.risen)) > 0.1
    assert found == bracket(parabola, 0.3, 1e-9, 0.1)
    with pytest.raises(ValueError, match="float64"):
        bracket(parabola, 0.3, 0.05, 0.26)  # the valley is not as deep


def test_a_loss_that_is_not_finite_before_it_rises_is_refused():
    with pytest.raises(ValueError, match="loss is nan after a step"):
        bracket(lambda eta: -eta if eta < 3 else nan, 1.0, 0.05, 0.0)
    found = bracket(lambda eta: eta * (eta - 1) if eta < 3 else nan, 2.5, 0.05, 0.0)
    assert isinstance(found, Bracket)
    assert found.fallen < 1 < found.risen


@pytest.mark.parametrize("name", ["mlp", "conv_bn"])
def test_in_float32_the_bracket_holds_what_float64_finds(name):
    case = make(name)
    fine = critical_sharpness(case.problem(), tol=1e-6)
    assert holds(critical_sharpness(case.problem(dtype=torch.float32)), float(fine.value))


def test_analyze_has_it_from_the_shared_gradient():
    found = ls.analyze(make("mlp").problem(), ["critical_sharpness", "gradient_norm"], progress=False)
    passes = found["critical_sharpness"].details["passes"]
    assert found["critical_sharpness"].gradient_times == pytest.approx(FORWARD * passes)
