from copy import deepcopy
from functools import partial

import pytest
import torch
from cases import normal
from torch import nn
from torch.nn import functional as F
from verified import NETWORKS, OPERATORS, PRECISIONS, TOLERATED, problem_of, vector_of

from landscape.curvature import ggn, hessian, hessian_blocks
from landscape.curvature.blocks import direct_sum, layers
from landscape.problem import Problem
from landscape.problem.batch import Batch


def agrees_or_says_why(operator, dtype):
    """`verified` is small, or None with a reason."""
    found = operator.choice.comparison
    if operator.verified is None:
        return found is not None and len(found.why) > 0 and str(found) == found.why
    return operator.verified == found.disagreement < TOLERATED[dtype]


# --- networks as they are


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", OPERATORS)
def test_an_ordinary_network_is_verified(kind, name, dtype):
    problem = problem_of(name, dtype)
    operator = OPERATORS[kind](problem)
    assert operator.verified is None
    operator @ vector_of(problem)
    assert operator.mode == "double_backward"
    assert agrees_or_says_why(operator, dtype)
    assert operator.verified is not None  # a share of the rows in float64 decides in each of these


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_verified(name, dtype):
    problem = problem_of(name, dtype)
    side_by_side = direct_sum(problem, layers(problem))
    side_by_side @ vector_of(problem)
    assert agrees_or_says_why(side_by_side, dtype)
    for block in hessian_blocks(problem).values():
        block @ torch.ones_like(block.w)
        assert agrees_or_says_why(block, dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("kind", OPERATORS)
def test_batches_of_few_rows_are_compared_whole_and_may_decide_nothing(kind, dtype):
    for name, rows in zip(NETWORKS, (2, 3, 4), strict=True):
        problem = problem_of(name, dtype, rows)
        operator = OPERATORS[kind](problem)
        operator @ vector_of(problem)
        assert operator.mode == "double_backward"
        assert agrees_or_says_why(operator, dtype)


def test_none_has_a_reason():
    problem = problem_of("gelu", torch.float64)
    nothing = Problem(problem.model, lambda z, t: 0.0 * z.sum(), problem.data)
    H = hessian(nothing)
    assert not (H @ vector_of(problem)).any()
    assert H.verified is None
    assert H.choice.comparison.why == "the product is 0 there"


def test_a_zero_vector_decides_nothing_and_the_next_one_does():
    problem = problem_of("gelu", torch.float64)
    H = hessian(problem)
    H @ torch.zeros(problem.size, dtype=torch.float64)
    assert H.choice.comparison is None
    H @ vector_of(problem)
    assert H.verified < 1e-4


# --- casts inside, which make steps of the loss: no alarm


class Autocast(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x).float()


class Casting(nn.Module):
    """Hidden values pass through another precision."""

    def __init__(self, net, dtype):
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, x):
        z = self.net[1](self.net[0](x))
        return self.net[2:](z.to(self.dtype).to(z.dtype))


INSIDE = {
    "autocast": Autocast,
    "half": partial(Casting, dtype=torch.float16),
    "bfloat16": partial(Casting, dtype=torch.bfloat16),
    "float": partial(Casting, dtype=torch.float32),
}


@pytest.mark.parametrize("rows", [24, 4])
@pytest.mark.parametrize(
    ("inside", "dtype"),
    [("autocast", torch.float32), ("half", torch.float32), ("bfloat16", torch.float32), ("bfloat16", torch.float64)]
    + [("float", dtype) for dtype in PRECISIONS],
)
def test_casts_inside_raise_no_alarm(inside, dtype, rows):
    for seed, name in enumerate(("relu", "gelu")):
        problem = problem_of(name, dtype, rows, seed, INSIDE[inside])
        for kind in (hessian, ggn):
            operator = kind(problem, mode="double_backward")  # asked for by name, an alarm raises
            operator @ vector_of(problem, seed)
            assert operator.verified is not None or operator.choice.comparison.why
        automatic = hessian(problem)
        automatic @ vector_of(problem, seed)
        assert automatic.mode == "double_backward"


def test_without_verification_nothing_more_is_run():
    problem = problem_of("gelu", torch.float64)
    calls = []
    problem.model.register_forward_hook(lambda *_: calls.append(1))
    problem.gradient()
    calls.clear()
    hessian(problem, verify=False, memory=0) @ vector_of(problem)
    assert len(calls) == len(problem.data)


def test_outputs_that_do_not_move_along_the_first_vector_decide_nothing():
    """A low-rank adapter at B = 0: the first unit vector is in A, along which J v = 0."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 3, bias=False))
    nn.init.zeros_(net[1].weight)
    problem = Problem(net, F.cross_entropy, [(torch.randn(20, 4), torch.arange(20) % 3)])
    twin = Problem(deepcopy(net).double(), F.cross_entropy, [(x.double(), t) for x, t in problem.data])
    assert (ggn(problem).dense().double() - ggn(twin, verify=False).dense()).abs().max() < 1e-6


# --- saturated networks: what float32 rounds away is no fault of the method, and no kink


def saturated(scale):
    """Class probabilities within 1e-8 of 0 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3))
        x = torch.randn(16, 4)
    with torch.no_grad():
        net[2].weight.mul_(scale)
        net[2].bias.mul_(scale)
    return Problem(net, F.cross_entropy, [(x, net(x).argmax(1).detach())])


@pytest.mark.parametrize("mode", ["auto", "double_backward"])
@pytest.mark.parametrize("scale", [500.0, 650.0])
def test_rounding_is_told_from_kinks(scale, mode):
    problem = saturated(scale)
    v = vector_of(problem)
    H = hessian(problem, mode=mode)
    right = hessian(Problem(problem.model, F.cross_entropy, problem.data, dtype=torch.float64)) @ v.double()
    off = float(((H @ v).double() - right).norm() / right.norm())
    assert off > TOLERATED[torch.float32]
    assert abs(H.verified - off) < 0.01 * off
    assert "rounding in torch.float32; dtype=torch.float64 is without it" in str(H.choice.comparison)
    assert mode != "auto" or "dtype=torch.float64" in H.reason


# --- one comparison for all blocks


class Half(nn.Module):
    """x², whose second derivative autograd does not see."""

    def forward(self, x):
        return x * x.detach() * 2 - x.detach() ** 2


def deep(middle):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), middle, nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)]
        return nn.Sequential(*layers)


def test_blocks_share_a_comparison_and_each_is_told_its_own(monkeypatch):
    problem = Problem(deep(nn.Tanh()), F.cross_entropy, [(normal(40, 6).float(), torch.arange(40) % 3)])
    calls, gradient = [], Batch.gradient
    monkeypatch.setattr(Batch, "gradient", lambda *given: calls.append(1) or gradient(*given))
    found = {}
    for name, block in hessian_blocks(problem).items():
        block @ torch.ones_like(block.w)
        found[name] = block.verified
    assert len(calls) == 2
    assert len(set(found.values())) == 4
    assert max(found.values()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fault_is_found_in_the_blocks_that_have_it(dtype):
    net = deep(Half()).to(dtype)
    problem = Problem(net, F.cross_entropy, [(normal(40, 6).to(dtype), torch.arange(40) % 3)])
    whole = hessian(problem, mode="central_differences").dense()
    modes = {}
    for name, block in hessian_blocks(problem).items():
        spans = [problem.layout.span(f"{name}.{kind}") for kind in ("weight", "bias")]
        inside = slice(spans[0].start, spans[1].stop)
        right = whole[inside, inside]
        assert (block.dense() - right).norm() < 1e-5 * right.norm()
        modes[name] = block.mode
    behind = "double_backward"
    assert modes == {"0": "central_differences", "2": "central_differences", "4": behind, "6": behind}


class Squares(nn.Module):
    """x·(u² − v²)."""

    def __init__(self, u, v):
        super().__init__()
        self.u, self.v = (nn.Parameter(torch.tensor(own, dtype=torch.float64)) for own in (u, v))

    def forward(self, x):
        return x @ (self.u**2 - self.v**2)


@pytest.mark.parametrize("small", [1e-3, 1e-6, 1e-9, 1e-12])
def test_columns_far_below_the_largest_raise_no_alarm_where_all_is_fitted(small):
    last = 1.2909944487358056  # 0.6 of its square is 1: the loss is 0 up to rounding
    u, v = [small, -(small**2), last], [-small, small**2, small**2]
    model, x = Squares(u, v), torch.tensor([[1.0, 0.0, 0.6], [0.0, 0.3, 0.6]], dtype=torch.float64)
    problem = Problem(model, nn.functional.mse_loss, (x, torch.ones(2, dtype=torch.float64)))
    found = hessian(problem).dense()
    u, v = (torch.tensor(own, dtype=torch.float64) for own in (u, v))
    slope = torch.cat([2 * u * x, -2 * v * x], dim=1)  # of the outputs, a row each
    left = x @ (u**2 - v**2) - 1
    curved = torch.cat([2 * left @ x, -2 * left @ x])  # of mean (left)²
    assert torch.allclose(found, slope.T @ slope + torch.diag(curved), rtol=1e-9, atol=1e-14)
