import math

import numpy as np
import pytest
import torch
from cases import normal
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.metrics import geodesic, worst_case_gap
from landscape.metrics.geodesic import GeodesicBall
from landscape.metrics.invariant_pairs import Pair, attention_pairs
from landscape.problem import Problem

METRICS = ["mix", "inv"]


class Product(nn.Module):
    """z = a b x with two scalars."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (a, b))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * self.b * x


class Composed(nn.Module):
    """z = x (second first)' with two matrices, and a bias that is no part of the pair."""

    def __init__(self, second: Tensor, first: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.first, self.second, self.bias = (nn.Parameter(t.clone()) for t in (first, second, bias))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.second @ self.first).T + self.bias


def scalar(c: float = 1.0) -> Problem:
    x = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    return Problem(Product(0.7 * c, 1.5 / c), F.mse_loss, [(x, 2 * x)])


def composed(A: Tensor) -> Problem:
    model = Composed(normal(3, 2, seed=1) @ A, torch.linalg.inv(A) @ normal(2, 4, seed=2), normal(3, seed=3))
    return Problem(model, F.mse_loss, [(normal(30, 4, seed=4), normal(30, 3, seed=5))])


def attention(A: Tensor) -> Problem:
    """One attention layer, every head's query and value turned by A, its key and output by the inverse transpose."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.MultiheadAttention(4, 2, batch_first=True).double()
        nn.init.normal_(model.in_proj_bias, std=0.3)
    turn, back = torch.block_diag(A, A), torch.block_diag(torch.linalg.inv(A).T, torch.linalg.inv(A).T)
    with torch.no_grad():
        for part, T in zip(range(3), (turn, back, turn), strict=True):
            rows = slice(4 * part, 4 * part + 4)
            model.in_proj_weight[rows] = T.T @ model.in_proj_weight[rows]
            model.in_proj_bias[rows] = T.T @ model.in_proj_bias[rows]
        model.out_proj.weight.copy_(model.out_proj.weight @ back)
    x = normal(20, 3, 4, seed=6)
    return Problem(model, F.mse_loss, [(x, normal(20, 3, 4, seed=7))], forward=lambda m, x: m(x, x, x)[0])


def ball(problem: Problem, metric: str, pairs: list[Pair]) -> GeodesicBall:
    return GeodesicBall(0.1, problem.vector(), pairs, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_the_scalar_model_follows_its_closed_form(metric: str) -> None:
    # L = k(ab − 2)², whose gradient points down: inv ab e^(√2 t), mix ab + √2 t, at |t| = rho
    found = geodesic(scalar(), rho=0.01, metric=metric, weight_pairs=[("a", "b")], steps=1)
    t, ab, k = -0.01 * math.sqrt(2), 0.7 * 1.5, float(torch.tensor([1.0, 4.0, 1.0]).mean())
    moved = ab * math.exp(t) if metric == "inv" else ab + t
    assert found.value.item() == pytest.approx(k * ((moved - 2) ** 2 - (ab - 2) ** 2), rel=1e-10)
    assert found.details["bend"] == 0


@pytest.mark.parametrize("metric", METRICS)
def test_entrywise_geodesics_solve_their_equation(metric: str) -> None:
    # mix, ½(v²u'² + u²v'²): (v²u')' = u v'²; inv, ½(u'²/u² + v'²/v²): u'' = u'²/u
    u, v = torch.tensor([0.7, -1.2, 0.02]).double(), torch.tensor([1.5, 0.4, -0.3]).double()
    b = torch.tensor([0.6, -0.3, 2.0]).double()

    def acceleration(_: float, y: np.ndarray) -> np.ndarray:
        u, v, a, c = y.reshape(4, 3)
        if metric == "inv":
            return np.concatenate([a, c, a**2 / u, c**2 / v])
        return np.concatenate([a, c, (u * c**2 - 2 * v * a * c) / v**2, (v * a**2 - 2 * u * a * c) / u**2])

    start = torch.cat([u, v, b * u, b * v]).numpy()
    end = torch.from_numpy(solve_ivp(acceleration, (0, 1), start, rtol=1e-11, atol=1e-13).y[:6, -1])
    pair = Pair(torch.arange(3).view(3, 1, 1), torch.arange(3, 6).view(3, 1, 1))
    region = GeodesicBall(0.1, torch.cat([u, v]), [pair], metric)
    moved = region.w + region.displacement(torch.cat([b * u, b * v]))
    assert torch.allclose(moved, end, rtol=1e-8)


def test_where_products_are_below_rho_the_maximum_is_that_of_the_exact_geodesics() -> None:
    # L = |X(uv − target)|²/n: mix reaches every product within √2 rho, as long as none changes sign
    x = normal(40, 4, seed=1)
    values, vectors = torch.linalg.eigh(x.T @ x / 40)
    top, along = float(values[-1]), vectors[:, -1]
    product, off = along.sign() * torch.tensor([1.0, 0.01, 0.5, 0.02]).double(), 1e-3

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v = nn.Parameter(product.abs().sqrt() * product.sign()), nn.Parameter(product.abs().sqrt())

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.u * self.v)

    problem = Problem(Pairs(), F.mse_loss, [(x, x @ (product - off * along))])
    found = geodesic(problem, rho=0.1, metric="mix", weight_pairs=[("u", "v")])
    s = math.sqrt(2) * 0.1
    assert found.value.item() == pytest.approx(top * ((s + off) ** 2 - off**2), rel=1e-3)
    assert found.details["converged"] == 1


def test_a_product_ends_at_zero_and_comes_back() -> None:
    problem = scalar()
    region = ball(problem, "mix", [Pair(torch.tensor([[[0]]]), torch.tensor([[[1]]]))])
    region.rho = 10.0
    w = region.w + region.displacement(region.pulled_back(-5 * region.w))
    assert 0 < float(w[0] * w[1]) < 1e-12
    assert region.slope(region.pulled_back(-5 * region.w), torch.ones(2).double()).isfinite().all()


def test_the_series_of_matrix_pairs_has_the_christoffel_symbols_of_the_scalar_pair() -> None:
    a, b, x, y = (torch.tensor([[[value]]], dtype=torch.float64) for value in (0.7, 1.5, 0.2, -0.3))
    region = ball(scalar(), "mix", [])
    G, H = region._christoffel(a, b, x, y, (a * a, b * b))
    assert torch.allclose(G, 2 * x * y / b - a * y**2 / b**2)
    assert torch.allclose(H, 2 * x * y / a - b * x**2 / a**2)
    region.metric = "inv"
    G, H = region._christoffel(a, b, x, y, (a * a, b * b))
    assert torch.allclose(G, -(x**2) / a)  # e^t to second order: + ½ x²/a
    assert torch.allclose(H, -(y**2) / b)


def test_too_large_a_radius_for_the_expansion_is_refused() -> None:
    problem, pairs = composed(torch.eye(2, dtype=torch.float64)), [("second", "first")]
    bends = [geodesic(problem, rho=rho, weight_pairs=pairs, steps=1).details["bend"] for rho in (0.02, 0.04)]
    assert bends[1] == pytest.approx(2 * bends[0], rel=1e-6)
    with pytest.raises(ValueError, match=r"rho must be small enough for the second order of the geodesic, got 50.0,"):
        geodesic(problem, rho=50.0, weight_pairs=pairs, steps=1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("steps", [1, 8])
def test_invariant_under_rescaling_of_a_scalar_pair(metric: str, steps: int) -> None:
    values = [
        geodesic(scalar(c), rho=0.3, metric=metric, weight_pairs=[("a", "b")], steps=steps).value for c in (1.0, 9.0)
    ]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-9)
    euclidean = [worst_case_gap(scalar(c), rho=0.3, steps=steps).value.item() for c in (1.0, 9.0)]
    assert abs(euclidean[1] / euclidean[0] - 1) > 0.1


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("steps", [1, 8])
@pytest.mark.parametrize("build", [composed, attention])
def test_invariant_under_every_change_of_basis(metric: str, steps: int, build: object) -> None:
    A = torch.tensor([[2.0, 0.5], [-0.3, 0.4]], dtype=torch.float64)
    pairs = [("second", "first")] if build is composed else None
    problems = [build(T) for T in (torch.eye(2, dtype=torch.float64), A)]  # type: ignore[operator]
    assert problems[0].loss().item() == pytest.approx(problems[1].loss().item(), rel=1e-12)
    values = [geodesic(problem, rho=0.1, metric=metric, weight_pairs=pairs, steps=steps) for problem in problems]
    assert values[0].value.item() == pytest.approx(values[1].value.item(), rel=1e-6)
    assert values[0].details["pairs"] == (1 if build is composed else 4)
    assert abs(worst_case_gap(problems[0]).value / worst_case_gap(problems[1]).value - 1) > 0.05


@pytest.mark.parametrize("metric", METRICS)
def test_projection_is_orthogonal_to_the_orbits_and_leaves_horizontal_vectors(metric: str) -> None:
    problem = attention(torch.tensor([[1.0, 0.2], [0.1, 0.8]], dtype=torch.float64))
    pairs = attention_pairs(problem)
    region = ball(problem, metric, pairs)
    e = region.horizontal(normal(problem.size, seed=8))
    assert torch.allclose(region.horizontal(e), e, rtol=1e-10, atol=1e-12)
    gradient = problem.gradient()
    assert torch.allclose(region.horizontal(region.first_order(gradient)), region.first_order(gradient), atol=1e-12)
    for pair in pairs:  # vertical: (G Λ, −H Λ')
        turn = normal(pair.G.shape[0], 2, 2, seed=9)
        vertical = torch.zeros_like(e)
        vertical[pair.G] = problem.vector()[pair.G] @ turn
        vertical[pair.H] = -problem.vector()[pair.H] @ turn.transpose(1, 2)
        parallelogram = region.length(e + vertical) ** 2 - region.length(e) ** 2 - region.length(vertical) ** 2
        assert abs(parallelogram) < 1e-9 * region.length(vertical) ** 2


@pytest.mark.parametrize("metric", METRICS)
def test_the_slope_is_the_derivative_along_the_curved_step(metric: str) -> None:
    problem = composed(torch.eye(2, dtype=torch.float64))
    pairs = [Pair(torch.arange(8, 14).view(1, 3, 2), torch.arange(8).view(2, 4).T[None])]
    region = ball(problem, metric, pairs)
    e, d = 0.1 * normal(problem.size, seed=1), normal(problem.size, seed=2)
    g = region.slope(e, problem.gradient(problem.vector() + region.displacement(e)))
    up, down = (problem.loss(problem.vector() + region.displacement(e + s * 1e-6 * d)) for s in (1, -1))
    assert float(g @ d) == pytest.approx(float(up - down) / 2e-6, rel=1e-6)


def test_without_pairs_it_is_the_adaptive_ball() -> None:
    problem = Problem(nn.Linear(4, 3).double(), F.mse_loss, [(normal(20, 4), normal(20, 3))])
    for steps in (1, 6):
        expected = worst_case_gap(problem, rho=0.2, geometry="adaptive", steps=steps).value
        assert geodesic(problem, rho=0.2, steps=steps).value.item() == pytest.approx(expected.item(), rel=1e-9)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="metric must be one of"):
        geodesic(scalar(), metric="flat")
    with pytest.raises(ValueError, match="weight_pairs must name parameters of the problem, got 'c'"):
        geodesic(scalar(), weight_pairs=[("a", "c")])
    with pytest.raises(ValueError, match="weight_pairs must be matrices that can be multiplied"):
        geodesic(composed(torch.eye(2, dtype=torch.float64)), weight_pairs=[("first", "second")])
    with pytest.raises(ValueError, match="paired matrices must have independent columns"):
        geodesic(Problem(Product(0.0, 1.0), F.mse_loss, [(normal(3), normal(3))]), weight_pairs=[("a", "b")])


def test_points_of_the_boundary_are_found_whatever_the_rounding_of_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 two lengths in a row may differ in the last place for ever."""
    w = normal(60).float()
    pair = Pair(torch.arange(30).view(1, 15, 2), torch.arange(30, 60).view(1, 15, 2))
    calls, measured = 0, GeodesicBall.length

    def length(self: GeodesicBall, e: Tensor) -> float:
        nonlocal calls
        calls += 1
        assert calls < 100
        flicker = 1 + (calls % 2) * torch.finfo(torch.float32).eps
        return measured(self, e) * flicker

    monkeypatch.setattr(GeodesicBall, "length", length)
    for metric in METRICS:
        calls, region = 0, GeodesicBall(0.1, w, [pair], metric)
        point = region.boundary_point(torch.Generator().manual_seed(0))
        assert measured(region, point) == pytest.approx(0.1, rel=1e-5)
