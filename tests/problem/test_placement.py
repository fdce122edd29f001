import copy
import pickle
import random
import sys
import threading
import warnings
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from cases import Recurrent, normal, same, seeded
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from landscape.curvature import ggn, hessian
from landscape.problem import Problem
from landscape.slices import slice_2d

SIZES = (6, 5, 3)


def classes(*shape):
    """Three unequal batches of inputs of that shape and classes."""
    starts = range(len(SIZES))
    return [
        (normal(n, *shape, seed=i), torch.randint(3, (n,), generator=seeded(i)))
        for i, n in zip(starts, SIZES, strict=True)
    ]


# --- threads


def test_eight_threads_on_one_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 3)).double()
    whole, part = Problem(net, F.cross_entropy, classes(4)), Problem(net, F.cross_entropy, classes(4)[:1], draws=3)
    problems = [whole, part.restricted_to(["4.weight", "4.bias"])]
    work = [(p, p.vector() + 0.1 * normal(p.size, seed=i)) for i, p in enumerate(problems * 4)]
    true = [p.gradient(w) for p, w in work]
    before, wrong, gate = trace_of(net), [], threading.Barrier(len(work))

    def ask(i):
        problem, w = work[i]
        gate.wait()
        for _ in range(100):
            try:
                right = torch.equal(problem.gradient(w), true[i])
            except Exception as error:
                right, i = False, repr(error)
            if not right:
                wrong.append(i)
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # what is rare becomes frequent
    try:
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(work))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert same_trace(trace_of(net), before)


# --- no trace


def perceptron(last):
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), last)


class Counting(nn.Module):
    """A forward pass that writes into a buffer, assigns another anew, and leaves a plain attribute."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("latest", torch.zeros(3))
        self.kept = [1, 2]

    def forward(self, x):
        z = self.layer(x)
        self.calls += 1
        self.latest = z.detach().mean(0)
        self.note = z
        return z + self.calls


NETWORKS = {
    "plain": lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Tanh(), nn.Linear(6, 3)),
    "recurrent": partial(Recurrent, 2, 3),
    "weight_norm": lambda: perceptron(nn.utils.weight_norm(nn.Linear(5, 3))),
    "spectral_norm": lambda: perceptron(nn.utils.spectral_norm(nn.Linear(5, 3))),
    "pruned": lambda: perceptron(prune.l1_unstructured(nn.Linear(5, 3), "weight", 0.4)),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 5), nn.Dropout(), nn.Linear(5, 3))),
    "counting": Counting,
}


def network(name):
    """That network in float64; every other module trains."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit and the older normalisations are deprecated
        torch.manual_seed(1)
        net = NETWORKS[name]().double()
    for i, module in enumerate(net.modules()):
        module.training = i % 2 == 0
    return net


def trace_of(net):
    """What must be as before: the objects, and copies of their values."""
    modules = list(net.modules())
    own = [dict(m.__dict__) for m in modules if not isinstance(m, torch.jit.ScriptModule)]
    tensors = [*net.parameters(), *net.buffers()]
    flat = [weight for m in modules for weight in getattr(m, "_flat_weights", [])]
    scripted = isinstance(net, torch.jit.ScriptModule)  # makes its tensors' wrappers as they are asked for
    objects = own, [] if scripted else tensors, flat
    values = [t.detach() for t in tensors] + [t.requires_grad for t in tensors] + [t.grad for t in tensors]
    flags = [m.training for m in modules]
    randomness = torch.get_rng_state().tolist(), random.getstate(), np.random.get_bit_generator().state
    return objects, copy.deepcopy([values, flags, pickle.dumps(randomness)]), np.random.get_bit_generator()


def same_trace(now, before):
    (own, tensors, flat), values, source = now
    (own_before, tensors_before, flat_before), values_before, source_before = before
    attributes = all(
        a.keys() == b.keys() and all(a[key] is b[key] for key in a) for a, b in zip(own, own_before, strict=True)
    )
    objects = all(a is b for a, b in zip([*tensors, *flat], [*tensors_before, *flat_before], strict=True))
    return attributes and objects and same(values, values_before) and source is source_before


CALLS = {
    "loss": lambda p: p.loss(p.vector() + 0.1),
    "gradient": lambda p: p.gradient(p.vector() + 0.1),
    "hessian": lambda p: hessian(p, p.vector() + 0.1) @ p.vector(),
    "ggn": lambda p: ggn(p, p.vector() + 0.1) @ p.vector(),
    "slice": lambda p: slice_2d(p, p.vector(), p.vector().flip(0), x=(-1, 1, 2), y=(0, 1, 2), progress=False),
}


def failing(function, after):
    """The function, which raises from its call number `after` on."""
    calls = []

    def call(*args):
        calls.append(1)
        if len(calls) > after:
            raise KeyError("on the way")
        return function(*args)

    return call


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_call_leaves_no_trace(name, call):
    net = network(name)
    shape = (2, 2) if name == "recurrent" else (4,)
    data, draw = classes(*shape), lambda m, x: m(x) + torch.rand(()) + np.random.rand() + random.random()
    if name == "spectral_norm":
        net(data[0][0])  # makes the attribute
    before = trace_of(net)
    CALLS[call](Problem(net, F.cross_entropy, data, forward=draw))
    assert same_trace(trace_of(net), before)
    for after in (1, 2):
        with pytest.raises(KeyError, match="on the way"):
            CALLS[call](Problem(net, F.cross_entropy, data, forward=failing(draw, after)))
        assert same_trace(trace_of(net), before)
        with pytest.raises(KeyError, match="on the way"):
            CALLS[call](Problem(net, failing(F.cross_entropy, after), data, forward=draw))
        assert same_trace(trace_of(net), before)


@pytest.fixture
def other_source():
    """NumPy's global functions draw from a generator of the user's choice."""
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(5))
    yield
    np.random.set_bit_generator(before)


@pytest.mark.usefixtures("other_source")
@pytest.mark.parametrize("call", CALLS)
def test_another_bit_generator_of_numpy_stays(call):
    net = network("plain")
    before = trace_of(net)
    problem = Problem(net, F.cross_entropy, classes(4), forward=lambda m, x: m(x) + np.random.rand())
    CALLS[call](problem)
    assert same_trace(trace_of(net), before)


def test_the_comparison_sees_each_kind_of_trace():
    net, state = network("recurrent"), torch.get_rng_state()
    first, flags = net.lstm._flat_weights[0], net.head.training

    def replace(tensor):
        net.lstm._flat_weights[0] = tensor

    def touched():
        yield lambda: net.head.bias.data.add_(1e-15), lambda: net.head.bias.data.sub_(1e-15)
        yield lambda: setattr(net, "note", 1), lambda: delattr(net, "note")
        yield lambda: replace(first.clone()), lambda: replace(first)
        yield lambda: net.head.train(not flags), lambda: net.head.train(flags)
        yield lambda: torch.rand(1), lambda: torch.set_rng_state(state)

    net.head.bias.data.zero_()
    before = trace_of(net)
    for change, undo in touched():
        change()
        assert not same_trace(trace_of(net), before)
        undo()
        assert same_trace(trace_of(net), before)


# --- a pass within a pass


def test_a_pass_within_a_pass():
    net = network("counting")
    outer, inner = Problem(net, F.cross_entropy, classes(4)), Problem(net, F.cross_entropy, classes(4)[1:])
    inner = inner.restricted_to(["layer.weight"])
    w, there = outer.vector() + 0.3, inner.vector() - 0.2
    expected, own = outer.gradient(w), inner.loss_and_gradient(there)
    before, total = trace_of(net), 0
    with outer.batches(w) as batches:
        for batch, units in zip(batches, SIZES, strict=True):
            leaf = batch.w.clone().requires_grad_()
            loss = batch.loss(leaf)
            # the weights that the inner problem leaves alone are those that are in place
            found = inner.loss_and_gradient(there)
            torch.testing.assert_close(inner.loss(there), found[0], rtol=1e-14, atol=0)
            with suppress(KeyError), inner.batches(there) as others:
                next(others).loss(there)
                raise KeyError
            total = total + units * torch.autograd.grad(loss, leaf)[0]
    torch.testing.assert_close(total / sum(SIZES), expected, rtol=1e-13, atol=1e-16)
    assert same_trace(trace_of(net), before)
    assert all(map(torch.equal, inner.loss_and_gradient(there), own))


def test_another_problem_within_a_pass_is_at_the_weights_it_is_asked_for():
    net = network("plain")
    outer, inner = Problem(net, F.cross_entropy, classes(4)), Problem(net, F.mse_loss, [(normal(4, 4), normal(4, 3))])
    w = outer.vector()
    expected = inner.loss(w - 0.2)
    with outer.batches(w + 0.3) as batches:
        for _ in batches:
            assert inner.loss(w - 0.2) == expected
