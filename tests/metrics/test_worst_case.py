from math import inf

import pytest
import torch
from cases import make, normal, seeded, symmetric
from quadratics import quadratic
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.curvature import ggn
from landscape.metrics import surrogate_gap, worst_case_gap
from landscape.metrics.ascent import ascend
from landscape.metrics.balls import ball
from landscape.problem import Problem

W, B = normal(6, seed=1), normal(6, seed=2)
INDEFINITE = symmetric(torch.tensor([-3.0, -0.5, 0.1, 1.0, 2.0, 4.0]))
DUAL = {1: inf, 1.5: 3, 2: 2, 4: 4 / 3, inf: 1}


def ball_maximum(A: Tensor, g: Tensor, rho: float) -> float:
    """max ½ eᵀA e + gᵀe over |e| <= rho, by the secular equation of the multiplier: |(mu − A)⁻¹g| = rho."""
    values, vectors = torch.linalg.eigh(A)
    c = vectors.T @ g
    mu = brentq(
        lambda m: float((c / (m - values)).norm()) - rho, float(values[-1].clamp(min=0)) + 1e-9, 1e6, xtol=1e-14
    )
    e = vectors @ (c / (mu - values))
    return float(0.5 * e @ A @ e + g @ e)


@pytest.mark.parametrize("p", DUAL)
@pytest.mark.parametrize(("geometry", "scale"), [("euclidean", torch.ones(6)), ("adaptive", W.abs() + 0.1)])
def test_one_step_is_the_maximum_of_a_linear_loss_in_every_ball(p: float, geometry: str, scale: Tensor) -> None:
    problem = quadratic(torch.zeros(6, 6, dtype=torch.float64), B, W)
    gap = worst_case_gap(problem, rho=0.3, geometry=geometry, p=p, eta=0.1, steps=1).value
    assert gap.item() == pytest.approx(0.3 * torch.linalg.vector_norm(scale * B, DUAL[p]).item(), rel=1e-12)


def test_filter_wise_scale_is_the_norm_of_the_row() -> None:
    problem = make("mlp").problem()
    g = problem.gradient()
    rows = [w.norm(dim=1, keepdim=True).expand_as(w) if w.ndim == 2 else w.abs() for w in problem.model.parameters()]
    scale = torch.cat([row.detach().flatten() for row in rows])
    e = 1e-6 * scale**2 * g / (scale * g).norm()
    expected = problem.loss(problem.vector() + e) - problem.loss()
    assert worst_case_gap(problem, rho=1e-6, geometry="adaptive_filter", steps=1).value == expected


def test_fisher_diagonal_is_fisher_sams_perturbation() -> None:
    problem = quadratic(INDEFINITE, B, W)
    g = INDEFINITE @ W + B
    inverse = 1 / (1 + 2.0 * g**2)
    e = 0.1 * inverse * g / (g @ (inverse * g)).sqrt()
    expected = float(g @ e + 0.5 * e @ INDEFINITE @ e)
    gap = worst_case_gap(problem, rho=0.1, geometry="fisher_diagonal", eta=2.0, steps=1).value
    assert gap.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("geometry", ["euclidean", "adaptive"])
def test_ascent_finds_the_maximum_of_a_quadratic_in_the_ball(geometry: str) -> None:
    scale = torch.ones(6, dtype=torch.float64) if geometry == "euclidean" else W.abs()
    expected = ball_maximum(torch.diag(scale) @ INDEFINITE @ torch.diag(scale), scale * (INDEFINITE @ W + B), 0.7)
    gap = worst_case_gap(quadratic(INDEFINITE, B, W), rho=0.7, geometry=geometry, steps=60).value
    assert gap.item() == pytest.approx(expected, rel=1e-6)


def test_at_a_minimum_it_starts_from_random_points_and_finds_half_rho_squared_lambda_max() -> None:
    problem = quadratic(symmetric(torch.tensor([0.1, 0.5, 1.0, 4.0])))
    assert worst_case_gap(problem, rho=0.3).value.item() == pytest.approx(0.5 * 0.09 * 4, rel=1e-3)
    assert worst_case_gap(problem, rho=0.3, steps=1).value == 0


def test_never_negative_where_every_direction_falls() -> None:
    assert worst_case_gap(quadratic(-torch.eye(4, dtype=torch.float64)), steps=5, restarts=2).value == 0


def test_the_largest_norm_ball_moves_every_coordinate() -> None:
    diagonal = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    problem = quadratic(diagonal, b=torch.full((3,), 0.1, dtype=torch.float64))
    gap = worst_case_gap(problem, rho=0.5, p=inf, steps=10).value
    assert gap.item() == pytest.approx(0.5 * 0.25 * 6 + 0.5 * 0.3, rel=1e-12)


def test_zero_weights_stay_zero_in_the_adaptive_ball() -> None:
    w = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
    gap = worst_case_gap(quadratic(torch.eye(3).double(), w=w), rho=0.1, geometry="adaptive", steps=1).value
    e = 0.1 * w**2 * w / (w.abs() * w).norm()
    assert gap.item() == pytest.approx(float(w @ e + 0.5 * e @ e), rel=1e-12)


@pytest.mark.parametrize("geometry", ["euclidean", "adaptive", "fisher_diagonal"])
def test_more_steps_and_restarts_never_find_less(geometry: str) -> None:
    problem = make("mlp").problem()
    kinds = [{"steps": 1}, {"steps": 2}, {"steps": 8}, {"steps": 8, "restarts": 2}]
    gaps = [worst_case_gap(problem, rho=0.5, geometry=geometry, **kind).value for kind in kinds]
    assert gaps == sorted(gaps)
    assert gaps[-1] > gaps[0]


def test_the_exact_fisher_ball_has_the_dense_maximiser() -> None:
    problem = make("mlp").problem()
    F, g, rho = ggn(problem).dense(), problem.gradient(), 1e-3
    values, vectors = torch.linalg.eigh(F)
    keep = values > 1e-9 * values[-1]  # a shift of all logits is free: g has no part there
    x = vectors[:, keep] @ ((vectors[:, keep].T @ g) / values[keep])
    e = rho * x / (g @ x).sqrt()
    expected = problem.loss(problem.vector() + e) - problem.loss()
    found = worst_case_gap(problem, rho=rho, geometry="fisher", steps=1)
    assert found.value.item() == pytest.approx(expected.item(), rel=1e-4)
    assert found.details["half_eFe"] == pytest.approx(0.5 * rho**2, rel=1e-6)
    assert found.details["half_eFe"] <= 0.5 * rho**2 * (1 + 1e-9)
    near = worst_case_gap(problem, rho=1e-5, geometry="fisher", steps=1).details
    assert near["kl"] == pytest.approx(near["half_eFe"], rel=0.05)


def test_the_exact_fisher_ball_says_where_products_did_not_suffice() -> None:
    problem = make("mlp").problem()
    whole, part = (
        worst_case_gap(problem, rho=1e-3, geometry="fisher", steps=1, max_matvecs=products) for products in (500, 3)
    )
    assert part.value.item() != pytest.approx(whole.value.item(), rel=0.05)
    assert (whole.details["converged"], part.details["converged"]) == (1.0, 0.0)
    assert whole.details["residual"] <= 1e-8 < part.details["residual"] < 1
    assert worst_case_gap(problem, geometry="fisher", steps=4, max_matvecs=3).details["converged"] == 0.0


class Gated(nn.Module):
    """z = x (A + s B) with s = 0: B changes no output until s has moved."""

    def __init__(self) -> None:
        super().__init__()
        self.A, self.B = (nn.Parameter(normal(4, 3, seed=seed)) for seed in (1, 2))
        self.s = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.A + self.s * self.B)


def test_the_fisher_balls_ascent_leaves_out_directions_in_which_the_ball_has_no_end() -> None:
    problem = Problem(Gated(), F.cross_entropy, [(normal(40, 4), torch.arange(40) % 3)])
    assert problem.gradient()[12:24].abs().max() == 0
    one, six = (worst_case_gap(problem, rho=0.3, geometry="fisher", steps=steps) for steps in (1, 6))
    assert one.value <= six.value < 10 * one.value
    assert six.details["length"] < 100 * one.details["length"]


def test_surrogate_gap_of_a_quadratic() -> None:
    g = INDEFINITE @ W + B
    along = float(g @ INDEFINITE @ g / (g @ g))
    found = surrogate_gap(quadratic(INDEFINITE, B, W), rho=0.2)
    assert found.value.item() == pytest.approx(0.2 * g.norm().item() + 0.02 * along, rel=1e-12)
    assert found.details["curvature_along_gradient"] == pytest.approx(along, rel=1e-9)


def test_the_diagonal_fisher_ball_says_what_divergence_it_moved() -> None:
    problem = make("mlp").problem()
    F, g = ggn(problem).dense(), problem.gradient()
    inverse = 1 / (1 + g**2)
    e = 1e-3 * inverse * g / (g @ (inverse * g)).sqrt()
    found = worst_case_gap(problem, rho=1e-3, geometry="fisher_diagonal", eta=1.0, steps=1).details
    assert found["half_eFe"] == pytest.approx(float(0.5 * e @ F @ e), rel=1e-9)
    assert found["kl"] == pytest.approx(found["half_eFe"], rel=0.05)


def test_the_fisher_ball_of_a_gaussian_model_holds_its_mean_within_rho() -> None:
    # mean squared error of z = w x: F = 2 E x², L a parabola, and the ball |e| <= rho / sqrt(F)
    x, y = normal(9, 1, seed=1), normal(9, 1, seed=2)
    problem = Problem(nn.Linear(1, 1, bias=False).double(), F.mse_loss, [(x, y)])
    fisher, g = 2 * float((x**2).mean()), abs(float(problem.gradient()))
    e = 0.4 / fisher**0.5
    found = worst_case_gap(problem, rho=0.4, geometry="fisher", steps=3)
    assert found.value.item() == pytest.approx(g * e + 0.5 * fisher * e**2, rel=1e-5)
    assert found.details["length"] == pytest.approx(e, rel=1e-5)


def test_normalised_logits_do_not_see_their_scale() -> None:
    model = nn.Linear(4, 3).double()
    data = [(normal(16, 4), torch.arange(16) % 3)]
    small, large = (Problem(model, F.cross_entropy, data, forward=lambda net, x, c=c: c * net(x)) for c in (1.0, 5.0))
    found = [worst_case_gap(q, rho=0.2, steps=4, normalize_logits=True).value.item() for q in (small, large)]
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    plain = [worst_case_gap(q, rho=0.2, steps=4).value.item() for q in (small, large)]
    assert plain[1] > 1.5 * plain[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rho": 0.0}, "rho must be positive and finite, got 0.0"),
        ({"rho": -1.0}, "rho must be positive"),
        ({"rho": float("nan")}, "rho must be positive"),
        ({"geometry": "round"}, "geometry must be one of"),
        ({"p": 0.5}, r"p must be in \[1, inf\], got 0.5"),
        ({"geometry": "fisher", "p": 1}, "p must be 2 for geometry 'fisher'"),
        ({"steps": 0}, "steps must be an integer at least 1, got 0"),
        ({"eta": -1.0}, "eta must be finite and at least 0"),
    ],
)
def test_bad_settings_get_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        worst_case_gap(quadratic(INDEFINITE, B, W), **settings)


def test_steps_are_a_cap_an_ascent_ends_in_a_corner_that_it_cannot_leave():
    net = nn.Linear(3, 1, bias=False).double()
    linear = Problem(net, lambda z, _: z.mean(), (normal(8, 3), normal(8, 1)))
    found = worst_case_gap(linear, p=inf, rho=0.1, steps=50)
    torch.testing.assert_close(found.value, 0.1 * linear.gradient().abs().sum())
    assert found.gradient_times == pytest.approx(1 + 1 + 1 / 3)  # at w, in the corner, and the loss opposite


def test_it_says_how_far_it_came_and_whether_it_has_converged() -> None:
    close = quadratic(symmetric(torch.cat([torch.linspace(0.5, 0.98, 60), torch.ones(1)]).double()))
    cut, whole = (worst_case_gap(close, rho=0.3, steps=steps) for steps in (4, 200))
    assert (cut.details["steps"], cut.details["converged"], cut.converged) == (4, 0, False)
    assert whole.details["converged"] == 1
    assert 4 < whole.details["steps"] < 60
    assert cut.details["last_gain"] > 1e-3 > whole.details["last_gain"] > 0
    assert cut.value < 0.98 * 0.045 < 0.99 * 0.045 < whole.value <= 0.045
    assert worst_case_gap(close, rho=0.3, steps=1).details == {"length": 0, "steps": 1}  # a definition, no ascent


@pytest.mark.parametrize("least", [-1.0, -30.0, -1000.0])
def test_steps_taken_back_are_no_convergence(least: float) -> None:
    A = symmetric(torch.tensor([least, -0.5, 0.1, 1.0, 2.0, 2.1]).double())
    g = A @ W + B
    found = worst_case_gap(quadratic(A, B, W), rho=0.7)
    assert found.details["converged"] == 1
    assert found.value.item() == pytest.approx(ball_maximum(A, g, 0.7), rel=2e-3)


def test_an_extrapolated_ascent_takes_fewer_gradients_than_the_power_iteration() -> None:
    A, b = symmetric(torch.linspace(0.0, 1, 300).double()), 1e-3 * normal(300, seed=5)
    problem = quadratic(A, b)
    region = ball(problem, b, rho=0.3, geometry="euclidean", p=2, eta=0.0)
    found = ascend(problem, region, region.first_order(b), problem.loss(), 200)
    assert found.gap == pytest.approx(ball_maximum(A, b, 0.3), rel=1e-2)
    e, count = 0.3 * b / b.norm(), 1
    while float(0.5 * e @ A @ e + b @ e) < found.gap:
        e, count = 0.3 * (A @ e + b) / (A @ e + b).norm(), count + 1
    assert found.steps < 0.8 * count  # the last three among them


def test_the_maximum_opposite_is_looked_at_too() -> None:
    # along e1 a steep quadratic, with a cubic term that makes −e1 the higher end; a slight slope points to +e1
    net = nn.Linear(2, 1, bias=False).double()
    nn.init.zeros_(net.weight)

    def cubic(z: Tensor, _: Tensor) -> Tensor:
        a, b = z.flatten()
        return 2 * a**2 - 3 * a**3 + 0.01 * a + 0.1 * b**2

    problem = Problem(net, cubic, (torch.eye(2).double(), torch.zeros(2, 1).double()))
    found = worst_case_gap(problem, rho=0.3)
    assert found.value.item() == pytest.approx(2 * 0.09 + 3 * 0.027 - 0.003, rel=1e-3)


def test_restarts_repeat_with_their_generator() -> None:
    problem = make("mlp").problem()
    runs = [worst_case_gap(problem, rho=0.5, restarts=3, generator=seeded(seed)) for seed in (4, 4, 5)]
    assert runs[0].value == runs[1].value
    assert runs[0].details == runs[1].details
    assert runs[2].value >= worst_case_gap(problem, rho=0.5).value


def test_an_ascent_that_meets_nothing_finite_ends() -> None:
    net = nn.Linear(1, 1, bias=False).double()
    data = (torch.ones(4, 1).double(), torch.ones(4, 1).double())
    edge = Problem(net, lambda z, _: (z.mean() - net.weight.detach().mean() + 0.01).log(), data)
    found = worst_case_gap(edge, rho=1.0)
    assert found.value.isfinite()
    assert found.details["steps"] < 40
