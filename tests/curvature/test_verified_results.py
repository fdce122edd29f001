"""Results say how far their operator agrees with differences."""

import pytest
import torch
from verified import problem_of

from landscape.curvature import hessian
from landscape.linalg import absolute_trace, diagonal, frobenius_norm, spectrum_ends, top_eigenpairs, trace
from landscape.linalg.operator import MatrixOperator

RESULTS = {
    "top_eigenpairs": lambda A: top_eigenpairs(A, 2),
    "eigenpairs by blocks": lambda A: top_eigenpairs(A, 4, block_size=2),
    "spectrum_ends": spectrum_ends,
    "trace": lambda A: trace(A, matvecs=12),
    "exact trace": lambda A: trace(A, matvecs=10**6),
    "diagonal": lambda A: diagonal(A, matvecs=12),
    "frobenius_norm": lambda A: frobenius_norm(A, matvecs=12),
    "absolute_trace": lambda A: absolute_trace(A, probes=2, steps=4),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_carry_what_was_verified(name):
    problem = problem_of("gelu", torch.float64)
    H, unchecked = hessian(problem), hessian(problem, verify=False)
    assert RESULTS[name](H).verified == H.verified < 1e-4
    assert RESULTS[name](unchecked).verified is None
    if name != "exact trace":
        assert RESULTS[name](MatrixOperator(H.dense())).verified is None
