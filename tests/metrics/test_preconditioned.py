"""λmax(P⁻¹H) against dense matrices, and its thresholds against the optimisers themselves on a quadratic."""

import pytest
import torch
from cases import make, normal, symmetric
from quadratics import quadratic
from torch import nn
from torch.nn import functional as F

import landscape as ls
from landscape.curvature import hessian
from landscape.curvature.preconditioned import Preconditioned, preconditioned_hessian, stability_threshold
from landscape.linalg.operator import MatrixOperator
from landscape.metrics import Metric, lambda_max, preconditioned_sharpness

FREE = {"lr": 0.01, "eps": 1e-3}


def trained(kind, steps=3, **settings):
    """A perceptron and its optimiser after some steps."""
    case = make("mlp")
    optimizer = kind(case.model.parameters(), **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(case.model(case.inputs), case.targets).backward()
        optimizer.step()
    return case, optimizer


def gradients_of(kind, steps=3, **settings):
    """The gradient before each step, (steps, P)."""
    case, found = make("mlp"), []
    optimizer = kind(case.model.parameters(), **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(case.model(case.inputs), case.targets).backward()
        found.append(torch.cat([p.grad.flatten() for p in case.model.parameters()]))
        optimizer.step()
    return torch.stack(found)


def average(squares, decay):
    """Exponential average from 0."""
    v = torch.zeros_like(squares[0])
    for own in squares:
        v = decay * v + (1 - decay) * own
    return v


PRECONDITIONERS = {  # from the gradients, by the optimisers' papers
    "adam": (torch.optim.Adam, {"betas": (0.9, 0.99)}, lambda g: (average(g**2, 0.99) / (1 - 0.99**3)).sqrt()),
    "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.9)}, lambda g: (average(g**2, 0.9) / (1 - 0.9**3)).sqrt()),
    "amsgrad": (
        torch.optim.Adam,
        {"betas": (0.9, 0.5), "amsgrad": True},
        lambda g: (torch.stack([average(g[:n] ** 2, 0.5) for n in (1, 2, 3)]).amax(0) / (1 - 0.5**3)).sqrt(),
    ),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.9}, lambda g: average(g**2, 0.9).sqrt()),
    "centered": (
        torch.optim.RMSprop,
        {"alpha": 0.9, "centered": True},
        lambda g: (average(g**2, 0.9) - average(g, 0.9) ** 2).sqrt(),
    ),
    "adagrad": (torch.optim.Adagrad, {}, lambda g: (g**2).sum(0).sqrt()),
}


@pytest.mark.parametrize("name", PRECONDITIONERS)
def test_it_is_the_largest_eigenvalue_of_the_dense_product(name):
    kind, settings, of_gradients = PRECONDITIONERS[name]
    case, optimizer = trained(kind, **FREE, **settings)
    P = of_gradients(gradients_of(kind, **FREE, **settings)) + FREE["eps"]
    H = hessian(case.problem()).dense()
    exact = torch.linalg.eigvals(H / P[:, None]).real.max()
    found = preconditioned_sharpness(case.problem(), optimizer=optimizer)
    assert abs(found.value - exact) <= found.stderr + 1e-9 * exact
    assert found.stderr < 1e-2 * exact
    assert found.details["threshold"] == stability_threshold(optimizer)
    dense = preconditioned_hessian(case.problem(), optimizer).dense()
    assert torch.allclose(dense, P[:, None] ** -0.5 * H * P**-0.5, rtol=1e-9, atol=1e-12)


def test_under_gradient_descent_it_is_the_largest_eigenvalue_itself():
    case, optimizer = trained(torch.optim.SGD, lr=0.1)
    found = preconditioned_sharpness(case.problem(), optimizer=optimizer)
    top = lambda_max(case.problem())
    assert abs(found.value - top.value) <= found.stderr + top.stderr
    assert found.details["threshold"] == pytest.approx(20)


def test_a_slower_group_counts_less():
    """w ← w − diag(η_i) g is stable while λmax(diag(η_i) H) < 2."""
    case = make("mlp")
    first, *others = case.model.parameters()
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.02}, {"params": others}], lr=0.1)
    eta = torch.cat([torch.full((p.numel(),), 0.02 if p is first else 0.1) for p in case.model.parameters()])
    exact = torch.linalg.eigvals(eta[:, None] * hessian(case.problem()).dense()).real.max()
    found = preconditioned_sharpness(case.problem(), optimizer=optimizer)
    assert found.value / found.details["threshold"] == pytest.approx(float(exact) / 2, rel=1e-3)


def test_the_optimiser_inside_another_and_parameters_that_were_chosen():
    case, optimizer = trained(torch.optim.Adam, **FREE)
    around = ls.SharpnessAware(optimizer, ls.rules.sam(0.1), model=case.model)
    whole, problem = preconditioned_hessian(case.problem(), around), case.problem(parameters=["0.weight"])
    size = problem.size
    assert torch.allclose(preconditioned_hessian(problem, optimizer).dense(), whole.dense()[:size, :size])


def test_analyze_takes_it_with_an_optimiser():
    case, optimizer = trained(torch.optim.Adam, **FREE)
    own = Metric(preconditioned_sharpness, {"optimizer": optimizer})
    found = ls.analyze(case.problem(), {"own": own}, progress=False)["own"]
    assert found.value == pytest.approx(float(preconditioned_sharpness(case.problem(), optimizer=optimizer).value))


def frozen(P, lr):
    """Adam on a quadratic so late that neither v nor the corrections of the means move: P alone is left."""
    A = symmetric(torch.linspace(0.5, 4, 6))
    problem = quadratic(A, w=normal(6))
    (p,) = problem.model.parameters()
    optimizer = torch.optim.Adam([p], lr=lr, betas=(0.9, 1 - 1e-16), eps=1e-8)
    state = {"step": torch.tensor(1e30), "exp_avg": torch.zeros(6).double(), "exp_avg_sq": (P - 1e-8) ** 2}
    optimizer.state[p].update(state)
    return problem, optimizer


DESCENTS = {
    "gradient descent": {},
    "heavy ball": {"momentum": 0.9},
    "dampened": {"momentum": 0.9, "dampening": 0.5},
    "nesterov": {"momentum": 0.9, "nesterov": True},
}


def growth(problem, optimizer, steps=1000):
    """|w| at the end over |w| before; it ends at 1e6, beyond which Adam's own v would calm it again."""
    (p,), A = problem.model.parameters(), problem.model.A
    lengths = [float(p.detach().norm())]
    while len(lengths) <= steps and lengths[-1] < 1e6:
        p.grad = A @ p.detach()
        optimizer.step()
        lengths.append(float(p.detach().norm()))
    return lengths[-1] / lengths[0]


@pytest.mark.parametrize("name", DESCENTS)
def test_gradient_descent_is_stable_up_to_its_threshold_and_not_beyond(name):
    def run(lr):
        problem = quadratic(symmetric(torch.linspace(0.5, 4, 6)), w=normal(6))
        return problem, torch.optim.SGD(problem.model.parameters(), lr=lr, **DESCENTS[name])

    edge = stability_threshold(run(1.0)[1]) / 4  # λmax is 4
    assert growth(*run(0.97 * edge)) < 1e-2
    assert growth(*run(1.03 * edge)) > 1e2


def test_adam_is_stable_up_to_38_over_its_learning_rate_and_not_beyond():
    P = torch.linspace(0.3, 2, 6).double()
    problem, optimizer = frozen(P, 1.0)
    found = preconditioned_sharpness(problem, optimizer=optimizer)
    A = symmetric(torch.linspace(0.5, 4, 6))
    exact = float(torch.linalg.eigvals(A / P[:, None]).real.max())
    assert abs(float(found.value) - exact) <= float(found.stderr) < 1e-2 * exact
    assert found.details["threshold"] == pytest.approx(38)
    edge = 38 / float(found.value)
    assert growth(*frozen(P, 0.97 * edge), 2000) < 1e-2
    assert growth(*frozen(P, 1.03 * edge), 2000) > 1e2


def test_without_a_learning_rate_nothing_is_unstable():
    case, optimizer = trained(torch.optim.SGD, lr=0.0)
    assert preconditioned_sharpness(case.problem(), optimizer=optimizer).details["threshold"] == float("inf")


def test_a_scaled_operator_says_what_the_inner_one_was_verified_to():
    scaled = Preconditioned(MatrixOperator(torch.eye(3).double()), torch.ones(3).double())
    assert scaled.verified is None
    assert torch.equal(scaled.dense(), torch.eye(3).double())


def test_what_the_inner_operator_may_be_off_by_is_scaled_with_it():
    class Rough(MatrixOperator):
        errors = torch.tensor([0.1, 0.2])

    scaled = Preconditioned(Rough(torch.eye(3).double()), torch.tensor([1.0, 3.0, 2.0]).double())
    assert torch.equal(scaled.errors, 3 * Rough.errors)  # |S e| <= max S |e|


def test_what_is_missing_is_said_in_one_line():
    case, adam = trained(torch.optim.Adam, steps=0, **FREE)
    problem, parameters = case.problem(), list(case.model.parameters())
    for optimizer, message in (
        (None, r"optimizer must be given: the torch optimiser that trains the model, with its state"),
        (adam, r"optimizer must have its state, of 0.weight it has none; make a step first, or optimizer.load_state"),
        (torch.optim.NAdam(parameters), "optimizer must be SGD, Adam, AdamW, RMSprop or Adagrad, got NAdam"),
        (torch.optim.Adagrad(parameters), "Adagrad has made no step"),
        (torch.optim.Adagrad(parameters, lr_decay=0.1), "Adagrad must have lr_decay 0, got 0.1"),
        (torch.optim.SGD(parameters[1:]), "must hold the problem's parameters, 0.weight it does not"),
        (
            torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:], "momentum": 0.9}]),
            r"all groups of optimizer must have one momentum, got \[2.0, 3.8\]",
        ),
        (torch.optim.Adam(nn.Linear(2, 2).parameters()), "give that of this very model"),
    ):
        with pytest.raises(ValueError, match=message):
            preconditioned_sharpness(problem, optimizer=optimizer)
