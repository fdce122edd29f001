"""How far it is from `H @ v` to the model: what a reader steps through.

Each frame of Python between a product and the network is one more thing to read.
"""

import sys

import pytest
import torch
from cases import Record, normal, seeded
from torch import nn
from torch.nn import functional as F

from landscape.curvature import fisher, ggn, hessian
from landscape.problem import Problem

MOST = 11


class Watched(nn.Module):
    """Notes the frames between `__matmul__` and itself, at each forward pass and at each pass back through it."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.forwards, self.backwards = Record(), Record()

    def __call__(self, x):
        self.forwards.append(frames_since("__matmul__"))
        z = torch.tanh(self.layer(x))
        if z.requires_grad:
            z.register_hook(lambda _: self.backwards.append(frames_since("__matmul__")))
        return self.head(z)


def frames_since(name):
    """Names of the functions from the caller's caller up to `name`, innermost first; both ends count.

    Without those of the type checker, which runs in tests only.
    """
    frame, names = sys._getframe(2), []
    while frame is not None and frame.f_code.co_name != name:
        module = frame.f_globals["__name__"]
        if module.partition(".")[0] not in ("jaxtyping", "beartype"):
            names.append(f"{module}.{frame.f_code.co_name}")
        frame = frame.f_back
    return None if frame is None else [*names, name]


def watched(kind, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Watched().double()
    data = [(normal(n, 4, seed=n), torch.randint(3, (n,), generator=seeded(n))) for n in (9, 6)]
    problem = Problem(model, F.cross_entropy, data)
    problem.gradient()  # shows the traits of the model
    return model, kind(problem, **settings), normal(problem.size, seed=5)


def again(model, A, v):
    model.forwards.clear()
    model.backwards.clear()
    A @ v


def within(model):
    found = model.forwards + model.backwards
    deepest = max(found, key=len)
    assert len(deepest) <= MOST, " < ".join(deepest)
    return len(found)


KINDS = {
    "hessian": hessian,
    "ggn": ggn,
    "empirical": lambda p, **settings: fisher(p, "empirical", **settings),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_product_is_at_most_eleven_frames_from_the_model(kind):
    model, A, v = watched(KINDS[kind], verify=False, memory=0)
    for _ in range(2):  # the first one, and one after it
        again(model, A, v)
        assert within(model) >= 2
        assert len(model.forwards) == 2  # one a batch


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_from_kept_graphs_is_not_further(kind):
    model, A, v = watched(KINDS[kind], memory=10**8)
    A @ v
    again(model, A, v)
    assert model.forwards == []  # nothing is run again
    assert within(model) >= 2


def test_a_product_from_kept_batches_is_not_further():
    model, A, v = watched(hessian, verify=False, memory=700)  # room for the batches, not for their graphs
    A @ v
    again(model, A, v)
    assert len(model.forwards) == 2
    within(model)
