"""What a forward pass keeps in plain attributes of its modules: none is there at other weights, or afterwards."""

import copy
from collections import OrderedDict, defaultdict, deque

import pytest
import torch
from cases import Record, normal, seeded
from torch import nn
from torch.nn import functional as F

from landscape.curvature import ggn, hessian
from landscape.problem import Problem
from landscape.problem.module_attributes import ModuleAttributes

SIZES = (6, 5, 3)
DATA = [(normal(n, 4, seed=n), torch.randint(3, (n,), generator=seeded(n))) for n in SIZES]


class Caching(nn.Module):
    """Divides by a norm of its weights that it computes once, and keeps in a container."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(4, 3), how
        self.kept = START[how]() if how in START else None

    def norm(self):
        return self.layer.weight.norm()

    def forward(self, x):
        return self.layer(x) / HOW[self.how](self)


def appended(net):
    if not net.kept:
        net.kept.append(net.norm())
    return net.kept[0]


def written(net):
    if net.kept[0] is None:
        net.kept[0] = net.norm()
    return net.kept[0]


def by_name(net):
    if "norm" not in net.kept:
        net.kept["norm"] = net.norm()
    return net.kept["norm"]


def in_a_dict_in_a_list(net):
    found = net.kept[0]["of"]
    if not found:
        found.append(net.norm())
    return found[0]


def in_a_set(net):
    if not net.kept:
        net.kept.add(net.norm())
    return next(iter(net.kept))


def in_a_default(net):
    if not net.kept["norm"]:
        net.kept["norm"].append(net.norm())
    return net.kept["norm"][0]


def assigned(net):
    if net.kept is None:
        net.kept = net.norm()
    return net.kept


def in_a_tensor(net):
    net.kept += 1  # calls so far, a plain tensor and no buffer
    return net.norm() * net.kept


def in_a_tensor_in_a_list(net):
    with torch.no_grad():
        net.kept[0] += 1
    return net.norm() * net.kept[0].clone()


def in_a_tensor_with_its_graph(net):
    net.kept.mul_(0).add_(net.norm())
    return net.kept.clone()


HOW = {
    "appended": appended,
    "written": written,
    "dict": by_name,
    "ordered": by_name,
    "nested": in_a_dict_in_a_list,
    "set": in_a_set,
    "deque": appended,
    "default": in_a_default,
    "assigned": assigned,
    "tensor": in_a_tensor,
    "tensor in a list": in_a_tensor_in_a_list,
    "tensor with its graph": in_a_tensor_with_its_graph,
}
START = {
    "appended": list,
    "written": lambda: [None, 3],
    "dict": dict,
    "ordered": OrderedDict,
    "nested": lambda: [{"of": []}, 2],
    "set": set,
    "deque": lambda: deque(maxlen=2),
    "default": lambda: defaultdict(list),
    "tensor": lambda: torch.zeros((), dtype=torch.float64),
    "tensor in a list": lambda: [torch.zeros((), dtype=torch.float64)],
    "tensor with its graph": lambda: torch.zeros((), dtype=torch.float64),
}


def caching(how):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Caching(how).double()


def at(net, how, w):
    """Loss, gradient and a product with the Hessian at w, from copies of the network that have run no batch before."""
    total, g, Hv = 0.0, torch.zeros(15).double(), torch.zeros(15).double()
    for x, t in DATA:
        fresh = copy.deepcopy(net)
        nn.utils.vector_to_parameters(w, fresh.parameters())
        own = list(fresh.parameters())
        share = len(t) / sum(SIZES)
        loss = share * F.cross_entropy(fresh(x), t)
        slopes = torch.autograd.grad(loss, own, create_graph=True)
        slope = torch.cat([s.flatten() for s in slopes])
        second = torch.autograd.grad(slope @ normal(15, seed=5), own)
        total, g = total + loss.detach(), g + slope.detach()
        Hv += torch.cat([s.flatten() for s in second])
    return total, g, Hv


@pytest.mark.parametrize("how", HOW)
def test_a_cache_is_that_of_the_weights_in_place_and_gone_afterwards(how):
    net = caching(how)
    problem, before = Problem(net, F.cross_entropy, DATA), copy.deepcopy(net.kept)
    w = problem.vector()
    for point in (2 * w, w, 2 * w):
        loss, g, Hv = at(net, how, point)
        torch.testing.assert_close(problem.loss(point), loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(problem.gradient(point), g, rtol=1e-10, atol=1e-13)
        H = hessian(problem, point)
        for _ in range(2):  # anew, and from kept graphs
            torch.testing.assert_close(H @ normal(15, seed=5), Hv, rtol=1e-9, atol=1e-12)
        assert (ggn(problem, point) @ normal(15, seed=5)).isfinite().all()
        assert net.kept == before
        assert type(net.kept) is type(before)


def test_of_attributes_as_they_were():
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    shared, t = [1], torch.zeros(3)
    net.first, net[1].second = {"a": shared, "t": t}, (own := deque([shared, t], maxlen=3))
    shared.append(shared)  # a list inside itself ends nothing
    kept = ModuleAttributes(list(net.modules()), with_tensors=True)
    assert not kept.changed()
    assert not kept.written()
    del net.first["a"]
    net.third, net[1].second = 1, None
    own.append(4)
    shared.clear()
    t.add_(1)
    assert kept.changed()
    assert kept.written()
    kept.renew(copies=True)
    assert net.first["t"] is own[1]
    assert net.first["t"] is not t
    kept.restore()
    assert net.first == {"a": shared, "t": t}
    assert not hasattr(net, "third")
    assert net[1].second is own
    assert list(own) == [shared, t]
    assert own.maxlen == 3
    assert shared[0] == 1
    assert shared[1] is shared
    assert not t.any()
    assert not kept.changed()
    assert not kept.written()


def test_a_container_of_a_class_of_ones_own_is_left_alone():
    net = nn.Linear(2, 2)
    net.seen = Record()
    kept = ModuleAttributes([net], with_tensors=True)
    net.seen.append(1)
    assert not kept.changed()
    kept.restore()
    assert net.seen == [1]
