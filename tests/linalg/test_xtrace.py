import sys

import pytest
import torch
from cases import normal, seeded, symmetric

from landscape.linalg.operator import MatrixOperator
from landscape.linalg.probes import sphere
from landscape.linalg.sketch import sketch
from landscape.linalg.xtrace import _LeaveOut, xtrace

values = torch.cat([torch.linspace(-1, 1, 30), torch.tensor([4.0, 7.0, -5.0, 9.0])])
matrix = symmetric(values)
A = MatrixOperator(matrix)


def written_out(target, others, probe):
    """tr(QᵀAQ) + scaled form of the probe's part outside of Q = orth(A others), with projectors in full."""
    Q = torch.linalg.qr(A.matrix @ others)[0]
    outside = probe - Q @ (Q.T @ probe)
    scale = (len(target) - Q.shape[1]) / outside.square().sum()
    return torch.trace(Q.T @ target @ Q) + scale * outside @ target @ outside


@pytest.mark.parametrize("squared", [False, True])
def test_one_and_two_left_out_are_the_estimates_from_smaller_sketches(squared):
    probes = sphere(A, 6, seeded(1))
    left_out = _LeaveOut(sketch(A, probes), squared)
    target = matrix @ matrix if squared else matrix
    for i in range(6):
        others = [k for k in range(6) if k != i]
        torch.testing.assert_close(left_out.one()[i], written_out(target, probes[:, others], probes[:, i]))
        for j in others:
            fewer = probes[:, [k for k in others if k != j]]
            torch.testing.assert_close(left_out.two()[j, i], written_out(target, fewer, probes[:, i]))


def test_the_stated_variance_is_the_variance_on_average():
    """Cov(Xᵢ, Xⱼ) = E[(Xᵢ − Xᵢ₋ⱼ)(Xⱼ − Xⱼ₋ᵢ)], here a third of the whole variance."""
    operator = MatrixOperator(symmetric(torch.arange(1.0, 41) ** -0.5))
    errors, spreads, covariances = [], [], []
    for seed in range(600):
        left_out = _LeaveOut(sketch(operator, sphere(operator, 6, seeded(seed))), False)
        samples = left_out.one()
        changes = samples - left_out.two()
        errors.append(samples.mean() - operator.matrix.trace())
        spreads.append(samples.var() / 6)
        covariances.append((changes * changes.T).sum() / 30)
    squares = torch.stack(errors).square()
    stated = torch.stack(spreads) + torch.stack(covariances)
    difference = squares - stated
    assert abs(difference.mean()) <= 4 * difference.std() / 600**0.5
    missing = squares - torch.stack(spreads)
    assert missing.mean() > 4 * missing.std() / 600**0.5


@pytest.mark.parametrize("squared", [False, True])
def test_a_space_that_the_others_span_has_no_error(squared):
    B = normal(40, 3)
    operator = MatrixOperator(B @ B.T)
    found = xtrace(sketch(operator, sphere(operator, 6, seeded())), squared=squared)
    exact = (B.T @ B).square().sum() if squared else B.square().sum()
    torch.testing.assert_close(found.value, exact, rtol=1e-11, atol=0)
    assert found.stderr <= 1e-11 * exact


def test_a_long_sketch_is_summed_in_parts(monkeypatch):
    """The same as of the whole: 34 rows are four parts of 7 and one of 6."""
    found = sketch(A, sphere(A, 6, seeded(1)))
    whole = xtrace(found)
    monkeypatch.setattr(sys.modules["landscape.linalg.xtrace"], "ROWS", 7)
    parts = xtrace(found)
    torch.testing.assert_close(parts.value, whole.value)
    torch.testing.assert_close(parts.stderr, whole.stderr)
