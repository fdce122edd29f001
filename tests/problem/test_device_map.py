"""Models that a device map has spread: the same numbers where all is in one place, else refused in one line."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape as ls

accelerate = pytest.importorskip("accelerate")


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        data = torch.randn(6, 4), torch.randint(3, (6,))
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), data


def test_a_map_to_one_device_changes_no_number():
    model, data = network()
    plain = ls.Problem(copy.deepcopy(model), F.cross_entropy, data)
    mapped = accelerate.dispatch_model(model, dict.fromkeys("012", "cpu"), force_hooks=True)
    problem = ls.Problem(mapped, F.cross_entropy, data)
    v = torch.ones(plain.size)
    assert torch.equal(problem.gradient(), plain.gradient())
    assert torch.equal(ls.hessian(problem).matvec(v), ls.hessian(plain).matvec(v))
    assert torch.equal(ls.ggn(problem).matvec(v), ls.ggn(plain).matvec(v))


@pytest.mark.parametrize("chosen", [None, ["0.weight"]])
def test_what_lies_on_disk_is_refused(chosen, tmp_path):
    model, data = network()
    places = {"0": "cpu", "1": "cpu", "2": "disk"}
    mapped = accelerate.dispatch_model(model, places, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True)
    with pytest.raises(ValueError, match=r"in memory, got .*2\.weight.* device_map"):
        ls.Problem(mapped, F.cross_entropy, data, parameters=chosen)


class Elsewhere(nn.Parameter):
    device = torch.device("cuda:0")


def test_chosen_parameters_on_two_devices_are_refused():
    model, data = network()
    model[2].weight = Elsewhere(model[2].weight.data)
    with pytest.raises(ValueError, match="one device, got cpu, cuda:0, as a device_map"):
        ls.Problem(model, F.cross_entropy, data)
    assert ls.Problem(model, F.cross_entropy, data, parameters=["0.weight"]).size == 32
