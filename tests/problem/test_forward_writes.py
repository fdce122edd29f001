"""What a forward pass reads and writes besides its inputs: buffers, weights from elsewhere, weights written into."""

import copy
from functools import partial

import pytest
import torch
from cases import Record, normal, same, seeded
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from landscape.curvature import ggn, hessian
from landscape.problem import Problem
from landscape.slices import slice_2d

SIZES = (6, 5, 3)


def classes(*shape):
    """Three unequal batches of inputs of that shape and classes."""
    return [(normal(n, *shape, seed=n), torch.randint(3, (n,), generator=seeded(n))) for n in SIZES]


CALLS = {
    "loss": lambda p: p.loss(p.vector() + 0.1),
    "gradient": lambda p: p.gradient(p.vector() + 0.1),
    "hessian": lambda p: hessian(p, p.vector() + 0.1) @ p.vector(),
    "ggn": lambda p: ggn(p, p.vector() + 0.1) @ p.vector(),
    "slice": lambda p: slice_2d(p, p.vector(), p.vector().flip(0), x=(-1, 1, 2), y=(0, 1, 2), progress=False),
}


# --- buffers


class Buffered(nn.Module):
    """Notes which tensors are its buffers, and their values, at each call; every second one writes if it `writes`."""

    def __init__(self, writes):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("still", torch.ones(3))
        self.register_buffer("moving", torch.zeros(3))
        self.writes, self.seen = writes, Record()

    def forward(self, x):
        self.seen.append((self.still, self.moving, self.moving.clone()))
        if self.writes and len(self.seen) % 2 == 0:
            self.moving.add_(1)
        return self.layer(x) * self.still + self.moving


@pytest.mark.parametrize("writes", [False, True])
def test_buffers_are_copied_once_a_pass_and_anew_where_forward_wrote(writes):
    net = Buffered(writes).double()
    problem = Problem(net, F.cross_entropy, classes(4))
    problem.loss()  # shows the traits of the model
    net.seen.clear()
    problem.loss()
    still, moving, values = zip(*net.seen, strict=True)
    assert len({id(tensor) for tensor in still}) == 1  # one copy for three batches
    assert still[0] is not net.still
    assert len({id(tensor) for tensor in moving}) == (2 if writes else 1)
    assert all(not value.any() for value in values)  # each evaluation finds the buffer as it was
    assert not net.moving.any()


# --- weights from elsewhere


@pytest.mark.parametrize("call", CALLS)
def test_weights_from_a_list_or_a_closure_are_refused_by_name(call):
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    held, scale = list(net.parameters()), net[2].weight
    penalty = Problem(net, lambda z, t: F.cross_entropy(z, t) + sum(p.square().sum() for p in held), classes(4))
    closure = Problem(net, F.cross_entropy, classes(4), forward=lambda m, x: m(x) @ scale[:, :3])
    with pytest.raises(ValueError, match=r"must read weights from the model's modules.*'0\.(bias|weight)'"):
        CALLS[call](penalty)
    with pytest.raises(ValueError, match=r"must read weights from the model's modules.*'2.weight'"):
        CALLS[call](closure)


# --- forward passes that write into weights


class Rescaling(nn.Module):
    """Halves the rows of its first layer in each forward pass, as RWKV does: the loss is that of half of them."""

    def __init__(self, how):
        super().__init__()
        self.first, self.head, self.how = nn.Linear(4, 5), nn.Linear(5, 3), how

    def forward(self, x):
        HALVED[self.how](self.first.weight)
        return self.head(torch.tanh(self.first(x)))


def in_place(weight):
    with torch.no_grad():
        weight.mul_(0.5)


HALVED = {
    "no_grad": in_place,
    "data": lambda weight: weight.data.mul_(0.5),
    "detach": lambda weight: weight.detach().mul_(0.5),
    "new data": lambda weight: setattr(weight, "data", 0.5 * weight.data),
    "several": lambda weight: torch._foreach_mul_([weight.data], 0.5),
    "out": lambda weight: torch.mul(weight.data, 0.5, out=weight.data),
    "none": lambda weight: None,
}
FOLLOWED = ["no_grad", "data", "detach"]


@pytest.mark.parametrize("how", [how for how in HALVED if how != "none"])
def test_a_forward_pass_that_writes_into_parameters_that_are_not_chosen(how):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, twin = Rescaling(how).double(), Rescaling("none").double()
    twin.load_state_dict(net.state_dict())
    in_place(twin.first.weight)
    problem, plain = (Problem(m, F.cross_entropy, classes(4), parameters=["head.weight"]) for m in (net, twin))
    before, v = copy.deepcopy(net.state_dict()), normal(problem.size, seed=7)
    whole = Problem(net, F.cross_entropy, classes(4))
    if how in FOLLOWED:
        whole.loss()  # what is known of the whole does not hold for a part
    for one in (problem, problem, whole.restricted_to(["head.weight"])):
        assert one.loss() == plain.loss()
        assert torch.equal(one.gradient(), plain.gradient())
        torch.testing.assert_close(hessian(one) @ v, hessian(plain) @ v, rtol=1e-12, atol=1e-14)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("how", FOLLOWED)
def test_a_forward_pass_that_writes_into_weights(how):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, twin = Rescaling(how).double(), Rescaling("none").double()
    twin.load_state_dict(net.state_dict())
    problem, plain = Problem(net, F.cross_entropy, classes(4)), Problem(twin, F.cross_entropy, classes(4))
    before = copy.deepcopy(net.state_dict())
    w, v = problem.vector(), normal(problem.size, seed=7)
    half = torch.ones_like(w)
    half[problem.layout.span("first.weight")] = 0.5
    torch.testing.assert_close(problem.loss(w), plain.loss(half * w), rtol=1e-13, atol=0)
    torch.testing.assert_close(problem.gradient(w), half * plain.gradient(half * w), rtol=1e-12, atol=1e-15)
    h = 1e-5
    slope = (problem.loss(w + h * v) - problem.loss(w - h * v)) / (2 * h)
    torch.testing.assert_close(problem.gradient(w) @ v, slope, rtol=0, atol=1e-9 * float(v.norm()))
    for kind in (hessian, ggn):
        matrix = kind(problem, w)
        expected = half * (kind(plain, half * w) @ (half * v))
        torch.testing.assert_close(matrix @ v, expected, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(matrix @ v, expected, rtol=1e-10, atol=1e-13)  # once more, from a kept graph
        assert matrix.mode == "double_backward"
    assert same(list(net.state_dict().items()), list(before.items()))


def of_length_one(weight):
    weight.div_(weight.norm())


def test_writes_in_a_part_that_is_computed_anew_are_refused_each_time():
    net = Rescaling("no_grad").double()
    problem = Problem(net, F.cross_entropy, classes(4), forward=partial(checkpoint, use_reentrant=False))
    for call in (problem.gradient, lambda: hessian(problem) @ problem.vector(), problem.gradient):
        with pytest.raises(ValueError, match="writes into its weights in a way that cannot be followed"):
            call()


OTHER_WRITES = {
    "under no_grad, by its own norm": torch.no_grad()(of_length_one),
    "data, by its own norm": lambda weight: of_length_one(weight.data),
    "copied": lambda weight: weight.detach().copy_(F.normalize(weight.detach(), dim=1)),
    "data assigned": lambda weight: setattr(weight, "data", weight.data * 0.5),
    "a row": lambda weight: weight.data[0].mul_(0.5),
    "a row set": lambda weight: weight.data.__setitem__(0, 0.5 * weight.data[0]),
    "a row under no_grad": torch.no_grad()(lambda weight: weight[0].mul_(0.5)),
    "foreach": torch.no_grad()(lambda weight: torch._foreach_mul_([weight], 0.5)),
    "out": torch.no_grad()(lambda weight: torch.mul(weight, 0.5, out=weight)),
}


@pytest.mark.parametrize("how", OTHER_WRITES)
def test_other_writes_into_weights_are_followed_or_refused(how, monkeypatch):
    monkeypatch.setitem(HALVED, how, OTHER_WRITES[how])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Rescaling(how).double()
    twin, data = copy.deepcopy(net), classes(4)[:1]
    problem = Problem(net, F.cross_entropy, data)
    w, v, h = problem.vector(), normal(problem.size, seed=7), 1e-5
    try:
        loss, slope = problem.loss(w), problem.gradient(w) @ v
    except ValueError as error:
        assert "weights" in str(error)  # noqa: PT017
        return
    with torch.no_grad():
        assert loss == F.cross_entropy(twin(data[0][0]), data[0][1])
    assert problem.loss(w) == loss
    difference = (problem.loss(w + h * v) - problem.loss(w - h * v)) / (2 * h)
    torch.testing.assert_close(slope, difference, rtol=0, atol=1e-8 * float(v.norm()))
