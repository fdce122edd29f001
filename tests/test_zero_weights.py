"""Weights that begin at zero, alone or among others: gains of residual branches, heads, the second factor of LoRA.

Differences have no scale of the weights to go by there, and products with some vectors are 0.
"""

import copy

import pytest
import torch
from cases import LoRA, normal, seeded
from torch import Tensor, nn
from torch.autograd.functional import hessian as dense_hessian
from torch.autograd.functional import jacobian
from torch.nn import functional as F

from landscape import METRICS
from landscape.curvature import fisher, ggn, hessian
from landscape.problem import Problem

X, T = normal(11, 4, seed=1), torch.randint(3, (11,), generator=seeded(2))
SIZES = (7, 4)


class ReZero(nn.Module):
    """x + g tanh(W x), twice, with g = 0."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.branches, self.gain = nn.ModuleList(nn.Linear(5, 5) for _ in range(2)), nn.Parameter(torch.zeros(2))

    def forward(self, x):
        x = torch.tanh(self.first(x))
        for gain, branch in zip(self.gain, self.branches, strict=True):
            x = x + gain * torch.tanh(branch(x))
        return self.head(x)


def zeroed(*places):
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    for place in places:
        for p in net[place].parameters():
            nn.init.zeros_(p)
    return net


NETWORKS = {  # and the parameters that are chosen
    "rezero": (ReZero, None),
    "rezero, gains alone": (ReZero, ["gain"]),
    "rezero, a branch without effect": (ReZero, ["branches.0.weight"]),
    "head": (lambda: zeroed(2), None),
    "head alone": (lambda: zeroed(2), ["2.weight", "2.bias"]),
    "below a head": (lambda: zeroed(2), ["0.weight"]),
    "everything": (lambda: zeroed(0, 2), None),
    "lora": (LoRA, None),
    "lora, A alone": (LoRA, ["A"]),
    "lora, B alone": (LoRA, ["B"]),
}
KINDS = {"hessian": hessian, "ggn": ggn, "empirical": lambda p: fisher(p, "empirical")}


def problem(name, dtype):
    make, names = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make().to(dtype)
    data = list(zip(X.to(dtype).split(SIZES), T.split(SIZES), strict=True))
    return Problem(net, F.cross_entropy, data, parameters=names)


def oracles(problem: Problem) -> dict[str, Tensor]:
    """Dense, in float64: H, JᵀCJ, and the mean of g gᵀ over samples."""
    net, names = copy.deepcopy(problem.model).double(), problem.layout.names
    own = {name: p.detach() for name, p in net.named_parameters()}
    w = torch.cat([own[name].flatten() for name in names])

    def outputs(w):
        parts = w.split([own[name].numel() for name in names])
        moved = {name: part.view_as(own[name]) for name, part in zip(names, parts, strict=True)}
        return torch.func.functional_call(net, own | moved, (X,))

    z, J = outputs(w), jacobian(outputs, w).flatten(0, 1)
    C = dense_hessian(lambda z: F.cross_entropy(z, T), z).view(len(J), len(J))
    g = jacobian(lambda w: F.cross_entropy(outputs(w), T, reduction="none"), w)
    return {
        "hessian": dense_hessian(lambda w: F.cross_entropy(outputs(w), T), w),
        "ggn": J.T @ C @ J,
        "empirical": g.T @ g / len(g),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_operators_are_those_of_dense_derivatives(name, dtype):
    at = problem(name, dtype)
    size, tolerance = at.size, 1e-5 if dtype == torch.float32 else 1e-10
    for kind, expected in oracles(at).items():
        columns = {"all": torch.eye(size), "one": torch.eye(size)[:, :1], "any": normal(size, 1, seed=3)}
        for what, V in columns.items():  # of a fresh operator, which is verified by the first product
            got, right = KINDS[kind](at).matmat(V.to(dtype)).double(), expected @ V.double()
            assert (got - right).norm() <= tolerance * max(float(right.norm()), 1e-3), (kind, what)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_metrics_of_the_fisher_matrix(name, dtype):
    at, G = problem(name, dtype), oracles(problem(name, dtype))["ggn"]
    w = at.vector().double()
    expected = {
        "lambda_max_ggn": float(torch.linalg.eigvalsh(G)[-1]),
        "fisher_rao": float(w @ G @ w),
    }
    for metric, value in expected.items():
        found = METRICS[metric](at, generator=seeded(0))
        assert float(found.value) == pytest.approx(value, rel=2e-3, abs=1e-6), metric
    trace = METRICS["trace_ggn"](at, generator=seeded(0))
    assert abs(float(trace.value) - float(G.trace())) <= 4 * float(trace.stderr) + 1e-4 * float(G.trace()) + 1e-6
    assert float(METRICS["worst_case_gap_fisher"](at, generator=seeded(0)).value) >= 0
