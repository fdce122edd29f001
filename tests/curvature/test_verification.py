from copy import deepcopy
from functools import partial

import pytest
import torch
from cases import normal, seeded
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from landscape.curvature import fisher, ggn, hessian, hessian_blocks
from landscape.curvature.blocks import direct_sum, layers
from landscape.problem import Problem

TOLERATED = {torch.float64: 1e-4, torch.float32: 2e-2, torch.bfloat16: 0.3}
PRECISIONS = list(TOLERATED)


def perceptron(activation):
    return nn.Sequential(nn.Linear(12, 20), activation(), nn.Linear(20, 20), activation(), nn.Linear(20, 5))


def convolution():
    pooled = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(nn.Unflatten(1, (1, 3, 4)), *pooled, nn.Flatten(), nn.Linear(8, 5))


NETWORKS = {
    "relu": partial(perceptron, nn.ReLU),
    "gelu": partial(perceptron, nn.GELU),
    "max_pool": convolution,
}
OPERATORS = {
    "hessian": hessian,
    "ggn": ggn,
    "exact": fisher,
    "sampled": lambda p, **settings: fisher(p, "sampled", **settings),
    "empirical": lambda p, **settings: fisher(p, "empirical", **settings),
}


def problem_of(name, dtype, rows=24, seed=0, wrap=None):
    """Two batches, of `rows` samples and of one less."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = NETWORKS[name]()
    net.to(dtype)
    data = [
        (normal(n, 12, seed=seed + n, dtype=dtype), torch.randint(5, (n,), generator=seeded(n)))
        for n in (rows, rows - 1)
    ]
    return Problem(net if wrap is None else wrap(net), F.cross_entropy, data)


def vector_of(problem, seed=3):
    return normal(problem.size, seed=seed).to(problem.vector())


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


# --- what it costs


class Work(TorchDispatchMode):
    """Multiplications in matrix products and convolutions, those in float64 counted twice."""

    def __init__(self):
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            double = any(getattr(arg, "dtype", None) == torch.float64 for arg in args)
            self.total += formula(*args, **(kwargs or {}), out_val=out) * (2 if double else 1)
        return out


def work_of(call):
    with Work() as work:
        call()
    return work.total


def overhead(kind, problem):
    """What the comparison of the first product costs, in gradients of the first batch."""
    v, one = vector_of(problem), problem.with_data(problem.data[:1])
    problem.gradient(), one.gradient()  # shows the traits of the model
    checked, plain = (OPERATORS[kind](problem, verify=verify) for verify in (True, False))
    extra = work_of(lambda: checked @ v) - work_of(lambda: plain @ v)
    again = work_of(lambda: checked @ v) - work_of(lambda: plain @ v)
    assert plain.choice.comparison is None
    assert plain.verified is None
    assert checked.choice.comparison is not None
    assert again == 0  # the second product is not compared
    return extra / work_of(one.gradient)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("rows", [32, 8, 4])
def test_a_comparison_costs_at_most_three_gradients_of_one_batch(rows, dtype):
    for name in ("relu", "max_pool"):
        problem = problem_of(name, dtype, rows)
        found = {kind: overhead(kind, problem) for kind in ("hessian", "ggn", "empirical")}
        listed = ", ".join(f"{kind} {cost:.2f}" for kind, cost in found.items())
        print(f"{name}, {rows} rows, {dtype}: {listed} gradients")  # noqa: T201
        assert all(0 < cost <= 3 for cost in found.values())


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
