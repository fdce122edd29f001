import copy
from functools import partial

import pytest
import torch
from cases import Recurrent, normal, seeded
from torch import nn
from torch.nn import functional as F

from landscape.curvature import fisher, ggn, hessian
from landscape.curvature.blocks import direct_sum, layers
from landscape.linalg import top_eigenpairs, trace
from landscape.problem import Problem
from landscape.slices import slice_1d, slice_2d

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


class Frozen(nn.Module):
    """Frozen parameters, statistics and another buffer, all of which count, and whole-number buffers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6).requires_grad_(False)
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.register_buffer("shift", torch.randn(3))
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        nn.init.uniform_(self.norm.running_var, 0.5, 2)
        nn.init.normal_(self.norm.running_mean)

    def forward(self, x):
        return (self.head(torch.tanh(self.norm(self.first(x)))) + self.shift)[:, self.order]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.other.weight = self.layer.weight

    def forward(self, x):
        return self.other(F.gelu(self.layer(x)))


NETWORKS = {
    "frozen": Frozen,
    "tied": Tied,
    "recurrent": lambda: nn.Sequential(nn.Unflatten(1, (1, 4)), Recurrent(4, 3)),
}


def network(name, own):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NETWORKS[name]().to(own)


def batches(dtype):
    return [
        (normal(n, 4, seed=n, dtype=torch.bfloat16).to(dtype), torch.randint(3, (n,), generator=seeded(n)))
        for n in (8, 5)
    ]


def problems(name, own, dtype, batch_norm="eval"):
    """A network looked at in `dtype`, and its twin converted by hand."""
    net = network(name, own)
    looked_at = Problem(net, F.cross_entropy, batches(own), dtype=dtype, batch_norm=batch_norm)
    return looked_at, Problem(copy.deepcopy(net).to(dtype), F.cross_entropy, batches(dtype), batch_norm=batch_norm)


CALLS = {
    "loss": lambda p, v: p.loss(),
    "loss elsewhere": lambda p, v: p.loss(p.vector() + 0.1 * v),
    "gradient": lambda p, v: p.gradient(),
    "outputs": lambda p, v: p.outputs(),
    "hessian": lambda p, v: hessian(p) @ v,
    "block": lambda p, v: hessian(p) @ torch.stack([v, v.flip(0)], dim=1),
    "forward over reverse": lambda p, v: hessian(p, mode="forward_over_reverse") @ v,
    "blocks": lambda p, v: direct_sum(p, layers(p)) @ v,
    "ggn": lambda p, v: ggn(p) @ v,
    "sampled": lambda p, v: fisher(p, "sampled") @ v,
    "line": lambda p, v: torch.as_tensor(slice_1d(p, v, x=(-1, 1, 3), progress=False).loss["train"]),
    "plane": lambda p, v: torch.as_tensor(
        slice_2d(p, v, v.flip(0), x=(-1, 1, 2), y=(0, 1, 2), progress=False).loss["train"]
    ),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("name", "own"), [*((name, torch.bfloat16) for name in NETWORKS), ("tied", torch.float32)])
def test_another_precision_is_that_of_the_converted_twin(name, own, dtype):
    problem, twin = problems(name, own, dtype)
    assert problem.vector().dtype == dtype
    assert torch.equal(problem.vector(), twin.vector())
    v = normal(problem.size, seed=3).to(dtype) / problem.size**0.5
    for what, call in CALLS.items():
        if name == "recurrent" and what == "forward over reverse":
            continue  # torch has no forward derivative of it
        found, expected = call(problem, v), call(twin, v)
        off = float((found - expected).norm() / expected.norm())
        assert found.dtype == expected.dtype, what
        assert off <= TOLERANCE[dtype], (what, off)
    own_now = {parameter.dtype for parameter in problem.model.parameters()}
    assert own_now == {own}


@pytest.mark.parametrize("policy", ["batch", "recompute"])
def test_statistics_are_taken_in_that_precision(policy):
    problem, twin = problems("frozen", torch.bfloat16, torch.float64, policy)
    v = normal(problem.size, seed=3)
    torch.testing.assert_close(problem.gradient(), twin.gradient(), rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(hessian(problem) @ v, hessian(twin) @ v, rtol=1e-10, atol=1e-12)


def test_it_is_more_than_the_precision_of_the_network():
    problem, twin = problems("tied", torch.bfloat16, torch.float64)
    plain = Problem(problem.model, F.cross_entropy, batches(torch.bfloat16))
    assert abs(plain.loss() - twin.loss()) > 1e-5
    assert hessian(problem).dtype == torch.float64
    H = hessian(problem)
    H @ problem.vector()
    assert H.verified < 1e-4


def test_precisions_that_are_none_are_named():
    net = network("tied", torch.float32)
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(ValueError, match=f"dtype must be floating, got {dtype}"):
            Problem(net, F.cross_entropy, batches(torch.float32), dtype=dtype)
    problem = Problem(net, F.cross_entropy, batches(torch.float32), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"w must be \(\d+,\) float64 on cpu, got \(\d+,\) float32 on cpu"):
        problem.loss(problem.vector().float())


def test_complex_vectors_are_refused():
    problem, _ = problems("tied", torch.float32, torch.float64)
    v = problem.vector() + 1j
    for kind in (hessian, ggn, fisher):
        matrix = kind(problem)
        for product in (lambda A: A @ v, lambda A: A.matvec(v), lambda A: A @ torch.stack([v, v], dim=1)):
            with pytest.raises(ValueError, match=r"expected torch.float64 on cpu, got torch.complex128 on cpu"):
                product(matrix)
    for call in (problem.loss, problem.gradient, problem.outputs):
        with pytest.raises(ValueError, match=r"w must be .* float64 on cpu, got .* complex128 on cpu"):
            call(v)
    with pytest.raises(ValueError, match="complex128"):
        slice_1d(problem, v, x=(-1, 1, 3))


def test_complex_parameters_are_right_or_refused():
    class Rotated(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex128))

        def forward(self, x):
            return (x.to(torch.complex128) @ self.weight).abs()

    with pytest.raises(ValueError, match="complex"):
        Problem(Rotated(), F.cross_entropy, batches(torch.float64)).gradient()


def test_the_default_dtype_changes_nothing():
    problem, _ = problems("tied", torch.float32, torch.float32)
    v = problem.vector().cos()

    def numbers():
        found = [problem.loss(), problem.gradient(), trace(hessian(problem), matvecs=12, generator=seeded(0)).value]
        found += [kind(problem) @ v for kind in (hessian, ggn, fisher, partial(fisher, kind="empirical"))]
        return [*found, top_eigenpairs(hessian(problem), k=2, generator=seeded(0)).values]

    before, own = numbers(), torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        now = numbers()
    finally:
        torch.set_default_dtype(own)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(now, before, strict=True))
