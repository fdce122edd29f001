"""A comparison costs at most three gradients of one batch, in time as calls, arithmetic and memory take it."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from cases import normal, seeded
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from verified import OPERATORS, PRECISIONS, convolution, perceptron, vector_of

from landscape.problem import Problem

CALL, ENTRY = 2**16, 16  # multiplications that take as long as calling an operation, and as writing an entry


class Work(TorchDispatchMode):
    """Time in multiplications: those in matrix products and convolutions, calls and entries written; float64 twice."""

    def __init__(self):
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        first = out[0] if isinstance(out, tuple | list) and out else out
        if func._schema.returns and func._schema.returns[0].alias_info is None and isinstance(first, torch.Tensor):
            work = ENTRY * first.numel() + (formula(*args, **(kwargs or {}), out_val=out) if formula else 0)
            self.total += CALL + work * (2 if first.dtype == torch.float64 else 1)
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


def wide(inputs, width):
    sizes = [inputs, width, width, 5]
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def images():
    layers = [nn.Conv2d(a, 8, 3, padding=1) for a in (1, 8, 8)]
    parts = [part for layer in layers for part in (layer, nn.ReLU())]
    return nn.Sequential(nn.Unflatten(1, (1, 16, 16)), *parts, nn.Flatten(), nn.Linear(2048, 5))


SIZES = {  # a network, its inputs, rows: calls, arithmetic or weights cost the most
    "small": (partial(perceptron, nn.ReLU), 12, 32),
    "small, four rows": (partial(perceptron, nn.ReLU), 12, 4),
    "small with pools": (convolution, 12, 32),
    "deep": (lambda: nn.Sequential(*[nn.Sequential(nn.Linear(12, 12), nn.Tanh()) for _ in range(20)]), 12, 32),
    "images": (images, 256, 64),
    "many rows": (lambda: wide(20, 256), 20, 512),
    "wide, few rows": (lambda: wide(20, 700), 20, 32),
    "wider than its rows": (lambda: wide(20, 700), 20, 160),
}


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", SIZES)
def test_a_comparison_costs_at_most_three_gradients_of_one_batch(name, dtype):
    make, inputs, rows = SIZES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make().to(dtype)
    batch = normal(rows, inputs).to(dtype), torch.randint(5, (rows,), generator=seeded(1))
    problem = Problem(net, F.cross_entropy, [batch])
    kinds = ["hessian", "ggn"] + ["empirical"] * (name != "small with pools")  # where the criterion outweighs all else
    found = {kind: overhead(kind, problem) for kind in kinds}
    listed = ", ".join(f"{kind} {cost:.2f}" for kind, cost in found.items())
    print(f"{name}, {dtype}: {listed} gradients")  # noqa: T201
    assert all(0 < cost <= 3 for cost in found.values())
