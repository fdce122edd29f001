import json
import math

import pytest
import torch
from cases import everything, make, normal, same, symmetric
from quadratics import quadratic
from torch import nn

import landscape as ls
from landscape.problem import Problem


class OfWeights(nn.Module):
    """A loss that is a function of the weights alone, whatever the data."""

    def __init__(self, w, function):
        super().__init__()
        self.weight, self.function = nn.Parameter(w.clone()), function

    def forward(self, x):
        return self.function(self.weight).expand(len(x))


def of_weights(w, function) -> Problem:
    data = [(torch.zeros(n, 1).double(), torch.zeros(n).double()) for n in (4, 3)]
    return Problem(OfWeights(w, function), lambda outputs, _: outputs.mean(), data)


def cubic() -> tuple[Problem, torch.Tensor]:
    """Σ c w³ / 6, whose Hessian is diag(c w)."""
    c = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.5, -0.7], dtype=torch.float64)
    return of_weights(normal(6) + 1, lambda w: (c * w**3).sum() / 6), c


def points(problem, d1, d2, x, y):
    """(ny, nx, P)"""
    grid_x, grid_y = (torch.linspace(*axis, dtype=torch.float64) for axis in (x, y))
    return problem.vector() + grid_x[None, :, None] * d1 + grid_y[:, None, None] * d2


def test_convexity_of_a_cubic_is_that_of_its_diagonal_hessian_at_every_point():
    problem, c = cubic()
    d1, d2 = normal(6, seed=1), normal(6, seed=2)
    x, y = (-1.0, 1.0, 3), (-0.5, 0.8, 2)
    found = ls.convexity_map(problem, d1, d2, x, y, tol=1e-3)
    spectrum = c * points(problem, d1, d2, x, y)
    low, high = spectrum.amin(-1), spectrum.amax(-1)
    assert found.values.shape == found.errors.shape == (2, 3)
    assert ((found.values - (low / high).abs()).abs() <= found.errors + 1e-12).all()
    assert (found.errors <= 0.02 * (1 + found.values)).all()
    assert ((found.parts["lambda_min"] - low).abs() <= found.parts["residual_min"] + 1e-12).all()
    assert ((found.parts["lambda_max"] - high).abs() <= found.parts["residual_max"] + 1e-12).all()
    assert found.details["matvecs"] == int(found.parts["matvecs"].sum()) > 0


def test_convexity_of_a_network_against_dense_hessians():
    problem = make("mlp").problem()
    d1, d2 = ls.random_directions(problem)
    x, y = (-1.0, 1.0, 3), (0.5, 1.0, 1)
    found = ls.convexity_map(problem, d1, d2, x, y, tol=1e-4)
    for j, row in enumerate(points(problem, d1, d2, x, y)):
        for i, w in enumerate(row):
            spectrum = torch.linalg.eigvalsh(ls.hessian(problem, w).dense())
            assert abs(found.values[j, i] - (spectrum[0] / spectrum[-1]).abs()) <= found.errors[j, i] + 1e-12
    assert (found.errors < 1e-3).all()


def test_too_few_products_show_in_the_errors():
    problem = quadratic(symmetric(torch.linspace(-1, 2, 40)))
    d1, d2 = normal(40, seed=1), normal(40, seed=2)
    found = ls.convexity_map(problem, d1, d2, (0, 1, 2), (0, 1, 1), tol=1e-6, max_matvecs=4)
    assert (found.errors > 1e-2).all()
    assert found.details["matvecs"] == 2 * 2 * 4


@pytest.mark.parametrize(
    ("diagonal", "expected"), [((-1.0, -4.0), math.inf), ((0.0, 0.0), math.nan), ((2.0, 8.0), 0.25)]
)
def test_no_positive_curvature_is_infinite_no_curvature_undefined_and_a_minimum_has_its_condition(diagonal, expected):
    problem = quadratic(torch.diag(torch.tensor(diagonal, dtype=torch.float64)))
    d1, d2 = torch.eye(2, dtype=torch.float64)
    found = ls.convexity_map(problem, d1, d2, (-1, 1, 2), (-1, 1, 2), tol=1e-8)
    torch.testing.assert_close(found.values, torch.full((2, 2), expected).double(), equal_nan=True)


def test_gradient_norm_of_a_quadratic():
    A, b = symmetric(torch.linspace(-1, 2, 5)), normal(5, seed=3)
    problem = quadratic(A, b, normal(5))
    d1, d2 = normal(5, seed=1), normal(5, seed=2)
    x, y = (-1.0, 2.0, 4), (-1.0, 0.5, 3)
    found = ls.gradient_norm_map(problem, d1, d2, x, y)
    torch.testing.assert_close(found.values, (points(problem, d1, d2, x, y) @ A + b).norm(dim=-1), rtol=1e-12, atol=0.0)
    assert (found.errors == 0).all()


@pytest.mark.parametrize("made", [ls.convexity_map, ls.gradient_norm_map])
def test_points_without_a_finite_loss_are_nan_and_the_others_stay_as_they_are(made):
    problem = of_weights(torch.tensor([1.0, 2.0]).double(), lambda w: -w.log().sum())  # Hessian diag(1 / w²)
    d1, d2 = torch.eye(2, dtype=torch.float64)
    found = made(problem, d1, d2, (-2.0, 1.0, 4), (-3.0, 0.0, 2))
    assert torch.equal(found.values.isnan(), torch.tensor([[True] * 4, [True, True, False, False]]))
    w = torch.tensor([[1.0, 2.0], [2.0, 2.0]]).double()
    expected = w.pow(-2).amin(1) / w.pow(-2).amax(1) if made is ls.convexity_map else (1 / w).norm(dim=1)
    torch.testing.assert_close(found.values[1, 2:], expected)
    assert torch.equal(found.errors.isnan(), found.values.isnan())


@pytest.mark.parametrize("made", [ls.convexity_map, ls.gradient_norm_map])
def test_what_is_wrong_with_the_data_raises(made):
    problem = Problem(
        nn.Linear(2, 2).double(), nn.functional.cross_entropy, [(torch.ones(3, 2).double(), torch.ones(3))]
    )
    d1, d2 = normal(6, seed=1), normal(6, seed=2)
    with pytest.raises(ValueError, match="criterion"):
        made(problem, d1, d2, (0, 1, 2), (0, 1, 2))


@pytest.mark.parametrize("made", [ls.convexity_map, ls.gradient_norm_map])
def test_the_model_and_the_random_state_are_left_as_they_were(made):
    problem = make("conv_bn").problem(batch_norm="recompute")
    before = everything(problem.model)
    made(problem, *ls.random_directions(problem), (0, 1, 2), (0, 1, 1))
    assert same(before, everything(problem.model))


class Interrupts:
    """A criterion that is interrupted by the keyboard at its n-th call."""

    def __init__(self, after):
        self.after = self.calls = 0
        self.after = after

    def __call__(self, outputs, _):
        self.calls += 1
        if self.calls == self.after:
            raise KeyboardInterrupt
        return (outputs**2).mean() + outputs.pow(4).mean()


def resumable(after=0, shift=0.0) -> Problem:
    inputs = torch.linspace(-1, 1, 12).double().reshape(6, 2) + shift
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    return Problem(model, Interrupts(after), [(inputs, torch.zeros(6))])


@pytest.mark.parametrize("made", [ls.convexity_map, ls.gradient_norm_map])
def test_an_interrupted_map_goes_on_where_it_was_and_ends_with_the_same_bits(made, tmp_path):
    x, y = (-1.0, 1.0, 3), (-1.0, 1.0, 2)
    whole = resumable()
    d1, d2 = ls.random_directions(whole)
    expected = made(whole, d1, d2, x, y)
    first, second = resumable(after=whole.criterion.calls // 2), resumable()
    with pytest.raises(KeyboardInterrupt):
        made(first, d1, d2, x, y, resume=tmp_path / "map.npz")
    found = made(second, d1, d2, x, y, resume=tmp_path / "map.npz")
    assert torch.equal(found.values, expected.values)
    assert torch.equal(found.errors, expected.errors)
    a_point = whole.criterion.calls / 6
    assert second.criterion.calls <= whole.criterion.calls - first.criterion.calls + 2 * a_point + 2


def test_a_checkpoint_of_other_work_is_refused(tmp_path):
    path, problem = tmp_path / "map.npz", resumable()
    d1, d2 = ls.random_directions(problem)
    axes = (-1.0, 1.0, 2), (-1.0, 1.0, 1)
    ls.convexity_map(problem, d1, d2, *axes, resume=path)
    with pytest.raises(ValueError, match="other data"):
        ls.convexity_map(resumable(shift=1.0), d1, d2, *axes, resume=path)
    for other, named in (
        (lambda: ls.convexity_map(problem, d2, d1, *axes, resume=path), "other d1, d2;"),
        (lambda: ls.convexity_map(problem, d1, d2, *axes, tol=0.1, resume=path), "other tol;"),
        (lambda: ls.gradient_norm_map(problem, d1, d2, *axes, resume=path), "other what"),
    ):
        with pytest.raises(ValueError, match=named):
            other()


def test_settings_are_checked():
    problem = quadratic(torch.eye(2).double())
    d1, d2 = torch.eye(2, dtype=torch.float64)
    for wrong, word in (((d1, 0 * d2), "d2"), ((d1[:1], d2), "d1")):
        with pytest.raises(ValueError, match=word):
            ls.gradient_norm_map(problem, *wrong)
    with pytest.raises(ValueError, match="tol"):
        ls.convexity_map(problem, d1, d2, tol=0.0)
    with pytest.raises(ValueError, match="max_matvecs"):
        ls.convexity_map(problem, d1, d2, max_matvecs=0)
    with pytest.raises(ValueError, match="x"):
        ls.convexity_map(problem, d1, d2, (1.0, -1.0, 3))


def test_a_map_is_saved_and_loaded(tmp_path):
    problem, _ = cubic()
    found = ls.convexity_map(problem, normal(6, seed=1), normal(6, seed=2), (-1, 1, 3), (-1, 1, 2))
    loaded = ls.Map2D.load(found.save(tmp_path / "map"))
    assert torch.equal(loaded.values, found.values)
    assert loaded.parts.keys() == found.parts.keys()
    assert (loaded.what, loaded.details) == (found.what, json.loads(json.dumps(found.details)))
