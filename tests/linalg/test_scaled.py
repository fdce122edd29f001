"""Results at any scale of the operator; a power of two leaves every digit as it was."""

import math
from dataclasses import replace

import pytest
import torch
from cases import Counting, normal, symmetric

from landscape import linalg
from landscape.linalg.deflation import Deflated
from landscape.linalg.lockstep import lockstep
from landscape.linalg.operator import CurvatureOperator, MatrixOperator
from landscape.linalg.scaled import Scaled
from landscape.linalg.shifted import Shifted
from landscape.linalg.solve import solve

SIZE = 60
SPECTRUM = torch.logspace(0, -3, SIZE, dtype=torch.float64)
MATRIX = symmetric(SPECTRUM)
PROBES = {"probes": 3, "steps": 8, "outliers": 2}
# function, power of the scale that its answer grows with
FUNCTIONS = {
    "xtrace": (lambda A: linalg.trace(A, matvecs=30), 1),
    "hutch++": (lambda A: linalg.trace(A, matvecs=30, method="hutch++"), 1),
    "hutchinson": (lambda A: linalg.trace(A, matvecs=30, method="hutchinson"), 1),
    "trace to a tolerance": (lambda A: linalg.trace(A, rtol=0.02), 1),
    "exact trace": (lambda A: linalg.trace(A, matvecs=SIZE), 1),
    "diagonal": (lambda A: linalg.diagonal(A, matvecs=30), 1),
    "exact diagonal": (linalg.diagonal, 1),
    "Frobenius": (lambda A: linalg.frobenius_norm(A, matvecs=30), 1),
    "exact Frobenius": (linalg.frobenius_norm, 1),
    "nuclear": (lambda A: linalg.absolute_trace(A, **PROBES), 1),
    "exact nuclear": (linalg.absolute_trace, 1),
    "power 2": (lambda A: linalg.absolute_trace(A, power=2, **PROBES), 2),
}
OTHERS = {
    "eigenpairs": lambda A: linalg.top_eigenpairs(A, 3),
    "block": lambda A: linalg.top_eigenpairs(A, 8, block_size=4),
    "ends": linalg.spectrum_ends,
    "density": lambda A: linalg.spectral_density(A, probes=3, steps=8),
    "density beside outliers": lambda A: linalg.spectral_density(A, probes=3, steps=8, outliers=2),
    "density beside clear ones": lambda A: linalg.spectral_density(A, probes=3, steps=8, outliers="auto"),
    "count": lambda A: linalg.eigenvalue_count(A, above=0.1, **PROBES),
    "exact count": lambda A: linalg.eigenvalue_count(A, above=0.1),
    "log determinant": lambda A: linalg.log_determinant(A, shift=1.0, **PROBES),
    "solve": lambda A: solve(A, torch.ones(len(A.dense()), dtype=A.dtype), damping=0.5),
}
EVERY = {**{name: function for name, (function, _) in FUNCTIONS.items()}, **OTHERS}
SCALES = [(torch.float32, 2.0**-100), (torch.float32, 2.0**100), (torch.float64, 2.0**-530), (torch.float64, 2.0**510)]


class Times(CurvatureOperator):
    """A matrix whose products come back times a number."""

    def __init__(self, matrix, factor):
        super().__init__(len(matrix), matrix.dtype, matrix.device)
        self.matrix, self.factor = matrix, factor

    def _product(self, block):
        return self.matrix @ block * self.factor


@pytest.mark.parametrize(("dtype", "c"), SCALES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_estimate_at_another_scale_has_the_same_digits(name, dtype, c):
    function, power = FUNCTIONS[name]
    if dtype == torch.float64 and power == 2:
        pytest.skip("the square is out of float64's range")
    found, one = (function(MatrixOperator(MATRIX.to(dtype) * factor)) for factor in (c, 1.0))
    assert torch.equal(found.value / c**power, one.value)
    assert torch.equal(found.stderr / c**power, one.stderr)
    assert found.matvecs == one.matvecs


@pytest.mark.parametrize(("dtype", "c"), SCALES)
@pytest.mark.parametrize("block_size", [1, 4])
@pytest.mark.parametrize("which", ["LM", "SA"])
def test_eigenpairs_at_another_scale_have_the_same_digits(which, block_size, dtype, c):
    asked = {"which": which, "block_size": block_size, "max_matvecs": 40}
    found, one = (linalg.top_eigenpairs(MatrixOperator(MATRIX.to(dtype) * f), 4, **asked) for f in (c, 1.0))
    assert torch.equal(found.values / c, one.values)
    assert torch.equal(found.residuals / c, one.residuals)
    assert torch.equal(found.vectors, one.vectors)
    assert torch.equal(found.converged, one.converged)


@pytest.mark.parametrize(("dtype", "c"), SCALES)
def test_ends_at_another_scale(dtype, c):
    ends = linalg.spectrum_ends(MatrixOperator(MATRIX.to(dtype) * c))
    assert ((ends.values.double() / c - SPECTRUM[[-1, 0]]).abs() <= ends.residuals.double() / c + 1e-6).all()


@pytest.mark.parametrize("outliers", [0, 2, "auto", "known"])
@pytest.mark.parametrize(("dtype", "c"), SCALES)
def test_a_density_at_another_scale_has_the_same_digits(dtype, c, outliers):
    def density(factor):
        A = MatrixOperator(MATRIX.to(dtype) * factor)
        known = linalg.top_eigenpairs(MatrixOperator(MATRIX.to(dtype)), 2)
        pairs = replace(known, values=known.values * factor, residuals=known.residuals * factor)
        return linalg.spectral_density(A, probes=3, steps=8, outliers=pairs if outliers == "known" else outliers)

    found, one = density(c), density(1.0)
    assert torch.equal(found.nodes / c, one.nodes)
    assert torch.equal(found.outliers / c, one.outliers)
    assert torch.equal(found.weights, one.weights)
    assert found.moments["mean_expected"] / c == one.moments["mean_expected"]
    squares = dtype == torch.float32  # those of 1e154 are beyond float64, and left out
    assert ("second" in found.moments) == squares
    assert not squares or found.moments["second"] / c**2 == one.moments["second"]


@pytest.mark.parametrize(("dtype", "c"), SCALES)
@pytest.mark.parametrize("steps", [8, 40])
def test_counts_and_determinants_take_their_thresholds_along(steps, dtype, c):
    A, one = (MatrixOperator(MATRIX.to(dtype) * factor) for factor in (c, 1.0))
    count, known = (linalg.eigenvalue_count(op, above=0.1 * f, probes=3, steps=steps) for op, f in ((A, c), (one, 1.0)))
    assert torch.equal(count.value, known.value)
    found, known = (linalg.log_determinant(op, shift=0.5 * f, probes=3, steps=steps) for op, f in ((A, c), (one, 1.0)))
    torch.testing.assert_close(found.value - SIZE * math.log(c), known.value, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize(("dtype", "c"), SCALES)
@pytest.mark.parametrize("of_b", [2.0**-90, 1.0])
def test_solutions_at_another_scale_have_the_same_digits(of_b, dtype, c):
    if dtype == torch.float32 and (c < 1) != (of_b < 1):
        pytest.skip("x is out of float32's range, or b is an ordinary one")
    b = normal(SIZE).to(dtype)
    found = solve(MatrixOperator(MATRIX.to(dtype) * c), b * of_b, damping=0.25 * c, tol=1e-5)
    one = solve(MatrixOperator(MATRIX.to(dtype)), b, damping=0.25, tol=1e-5)
    assert torch.equal(found.x / of_b * c, one.x)
    assert found.relative_residual == one.relative_residual


def test_an_x_that_does_not_fit_is_refused():
    A, b = MatrixOperator(MATRIX.float() * 2.0**-100), normal(SIZE).float() * 2.0**90
    with pytest.raises(ValueError, match="the result overflows"):
        solve(A, b, damping=2.0**-102)


@pytest.mark.parametrize("bits", [130, 140])  # entries of float32 below 2^-126 have lost digits
def test_of_subnormal_entries_the_estimate_is_that_of_the_matrix_as_it_is(bits):
    matrix = MATRIX.float() * 2.0**-bits
    A, exact = MatrixOperator(matrix), matrix.double()
    found = linalg.trace(A, matvecs=40)
    assert abs(found.value - exact.trace()) <= 6 * found.stderr + 1e-5 * exact.trace()
    norm = linalg.frobenius_norm(A, matvecs=40)
    assert abs(norm.value - exact.norm()) <= 6 * norm.stderr + 1e-5 * exact.norm()
    with pytest.raises(ValueError, match="the result underflows"):
        linalg.top_eigenpairs(A, 2)


def test_products_that_overflow_are_asked_for_shorter_vectors():
    matrix = torch.full((SIZE, SIZE), 2.0**126)  # row sums beyond float32
    found = linalg.trace(MatrixOperator(matrix), matvecs=10)
    torch.testing.assert_close(found.value, matrix.double().trace(), rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match="the result overflows"):
        linalg.top_eigenpairs(MatrixOperator(matrix), 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", EVERY)
def test_nan_and_infinity_are_one_line_everywhere(name, bad):
    with pytest.raises(ValueError, match="the operator gave NaN or infinity") as raised:
        EVERY[name](Times(MATRIX.abs(), bad))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY)
def test_zero_is_zero(name, dtype):
    found = EVERY[name](MatrixOperator(torch.zeros(SIZE, SIZE, dtype=dtype)))
    for field in ("value", "stderr", "values", "residuals", "nodes"):
        if hasattr(found, field):
            assert not getattr(found, field).any()
    if name == "solve":
        torch.testing.assert_close(found.x, torch.full((SIZE,), 2.0, dtype=dtype))


@pytest.mark.parametrize("name", ["exact trace", "exact diagonal", "exact Frobenius", "exact nuclear"])
def test_leading_columns_of_another_scale_do_not_set_that_of_the_rest(name):
    values = torch.cat([torch.full((80,), 1e-37), torch.linspace(1e4, 2e4, 20)])
    A = MatrixOperator(torch.diag(values))
    functions = {
        "exact trace": (linalg.trace(A, matvecs=100), values.sum()),
        "exact diagonal": (linalg.diagonal(A, matvecs=100), values),
        "exact Frobenius": (linalg.frobenius_norm(A, matvecs=100), values.norm()),
        "exact nuclear": (linalg.absolute_trace(A), values.sum()),
    }
    found, true = functions[name]
    torch.testing.assert_close(found.value, true.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("c", [2.0**-100, 1.0, 2.0**100])
def test_a_start_that_the_operator_sends_to_zero_does_not_set_the_scale(c):
    values = torch.cat([torch.zeros(1), torch.linspace(1, 3, 39)])
    start = torch.eye(40)[0]
    pairs = linalg.top_eigenpairs(MatrixOperator(torch.diag(values) * c), 1, start=start)
    assert abs(pairs.values[0] / c - 3) < 1e-3


RESUMABLE = {
    "trace": lambda A, path: linalg.trace(A, matvecs=190, resume=path).value,
    "density": lambda A, path: linalg.spectral_density(A, probes=6, steps=10, outliers=1, resume=path).nodes,
    "eigenpairs": lambda A, path: linalg.top_eigenpairs(A, 5, tol=1e-6, resume=path).values,
}


@pytest.mark.parametrize("c", [2.0**-100, 2.0**100])
@pytest.mark.parametrize("name", RESUMABLE)
def test_a_killed_run_goes_on_at_its_scale(name, c, tmp_path):
    matrix = symmetric(torch.logspace(0, -3, 200)).float()
    A, path = Counting(matrix * c), tmp_path / "run.npz"
    whole = RESUMABLE[name](A, tmp_path / "whole.npz")
    A.death, A.life = KeyboardInterrupt, A.count + (60 if name != "eigenpairs" else 8)
    with pytest.raises(KeyboardInterrupt):
        RESUMABLE[name](A, path)
    assert path.exists()
    A.life = math.inf
    assert torch.equal(RESUMABLE[name](A, path), whole)


def test_operators_made_of_another_like_as_many_columns():
    A = Counting(MATRIX, columns=8)
    assert MatrixOperator(MATRIX).columns == 1
    assert [B.columns for B in (Scaled(A), Shifted(A, 1.0), Deflated(A, normal(SIZE, 2)))] == [8, 8, 8]
    seen, passes = lockstep(A, [40, 20], [(0, lambda part: part.columns), (1, lambda part: part.columns)])
    assert (seen, passes) == ([8, 8], 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda A, path: linalg.trace(A),
        lambda A, path: linalg.trace(A, method="hutch++"),
        lambda A, path: linalg.trace(A, method="hutchinson", rtol=0.01),
        lambda A, path: linalg.trace(A, rtol=0.01),
        lambda A, path: linalg.diagonal(A),
        lambda A, path: linalg.frobenius_norm(A),
        lambda A, path: linalg.spectral_density(A, steps=6),
        lambda A, path: linalg.spectral_density(A, steps=6, probes=16, check=0, resume=path),
        lambda A, path: linalg.absolute_trace(A, steps=6, outliers=0),
        lambda A, path: A.dense(),
    ],
)
def test_probes_share_their_products(function, tmp_path):
    A = Counting(symmetric(torch.logspace(0, -3, 160)), columns=8)
    function(A, tmp_path / "run.npz")
    assert min(A.widths) >= 8
