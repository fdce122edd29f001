import copy

import pytest
import torch
from cases import everything, make, normal, same
from torch import nn

from landscape.problem import Problem
from landscape.slices import interpolate


def pair(name: str = "conv_bn") -> tuple[Problem, Problem]:
    """Two networks on the same data that differ in weights and buffers."""
    case = make(name)
    other = copy.deepcopy(case.model)
    with torch.no_grad():
        for i, p in enumerate(other.parameters()):
            p.add_(normal(*p.shape, seed=i))
        for buffer in other.buffers():
            buffer.add_(1 if buffer.dtype == torch.long else 0.3 * buffer.abs())
    return case.problem(), Problem(other, case.criterion, case.batches)


def loss_of(problem: Problem, policy: str = "eval") -> torch.Tensor:
    return problem.with_batch_norm(policy).loss()


@pytest.mark.parametrize("policy", ["interpolate", "recompute", "batch"])
@pytest.mark.parametrize("given", ["model", "state dict"])
def test_both_ends_are_the_networks_themselves(policy, given):
    one, two = pair()
    other = two.model if given == "model" else two.model.state_dict()
    line = interpolate(one, other, (-0.5, 1.5, 9), data={"a": one.data}, batch_norm=policy)
    assert line.x[2] == 0
    assert line.x[6] == 1
    own = "eval" if policy == "interpolate" else policy
    for index, problem in ((2, one), (6, two)):
        torch.testing.assert_close(line.loss["a"][index], loss_of(problem, own), rtol=1e-14, atol=0.0)
    assert line.details["batch_norm"] == policy


def test_weights_and_buffers_end_to_the_bit():
    one, two = pair()
    from landscape.slices.paths.interpolation import _segment

    segment = _segment(one, two.model)
    for x, problem in ((0.0, one), (1.0, two)):
        w, buffers = segment.at([x])
        assert torch.equal(w, problem.vector())
        assert same([buffers[name] for name, _ in problem.model.named_buffers()], list(problem.model.buffers()))
    w, buffers = segment.at([0.25])
    torch.testing.assert_close(w, 0.75 * one.vector() + 0.25 * two.vector(), rtol=1e-14, atol=1e-15)
    mean = 0.75 * one.model[1].running_mean + 0.25 * two.model[1].running_mean
    torch.testing.assert_close(buffers["1.running_mean"], mean, rtol=1e-14, atol=1e-15)
    assert segment.at([-20.0])[1]["1.running_var"].min() == 0


def test_the_middle_is_a_network_of_mean_weights_and_its_buffers_are_what_was_asked_for():
    one, two = pair()
    middle = Problem(copy.deepcopy(one.model), one.criterion, one.data)
    torch.nn.utils.vector_to_parameters((one.vector() + two.vector()) / 2, middle.model.parameters())
    expected = {"eval": loss_of(middle), "recompute": loss_of(middle, "recompute")}
    for mine, first, last in zip(middle.model.buffers(), one.model.buffers(), two.model.buffers(), strict=True):
        mine.copy_((first.double() + last.double()) / 2)
    expected["interpolate"] = loss_of(middle)
    found = {policy: interpolate(one, two.model, (0, 1, 3), batch_norm=policy).loss["train"][1] for policy in expected}
    for policy, loss in expected.items():
        torch.testing.assert_close(found[policy], loss, rtol=1e-13, atol=0.0)
    assert len({float(loss) for loss in found.values()}) == 3
    assert interpolate(one, two.model, (0, 1, 3)).loss["train"][1] == found["interpolate"]  # the default
    assert interpolate(one, two.vector(), (0, 1, 3)).loss["train"][1] == found["eval"]


@pytest.mark.parametrize("name", ["tied", "frozen_unused", "mapping", "parametrized"])
def test_any_network_reaches_the_other_end(name):
    one = make(name).problem()
    other = one.vector() + normal(one.size)
    line = interpolate(one, other, (0, 1, 2))
    torch.testing.assert_close(line.loss["train"][1], one.loss(other), rtol=1e-14, atol=0.0)


def test_nothing_is_left_behind_also_after_an_exception():
    one, two = pair()
    before = everything(one.model), everything(two.model)
    interpolate(one, two.model, (0, 1, 3))
    assert same(list(before), [everything(one.model), everything(two.model)])
    calls = []

    def failing(outputs, targets):
        calls.append(1)
        if len(calls) > 6:
            raise KeyError("criterion")
        return nn.functional.cross_entropy(outputs, targets)

    with pytest.raises(KeyError):
        interpolate(Problem(one.model, failing, one.data), two.model, (0, 1, 30))
    assert same(before[0], everything(one.model))


def test_another_network_that_does_not_fit_is_named():
    one, two = pair()
    few = {name: tensor for name, tensor in two.model.state_dict().items() if name != "4.weight"}
    with pytest.raises(ValueError, match=r"other must have a 4.weight of shape \(4, 27\), got none"):
        interpolate(one, few)
    adapters = Problem(one.model, one.criterion, one.data, parameters=["4.weight"])
    with pytest.raises(ValueError, match=r"must differ only in parameters of the problem, got another 0.weight"):
        interpolate(adapters, two.model)
    with pytest.raises(ValueError, match="needs the buffers of both networks"):
        interpolate(one, two.vector(), batch_norm="interpolate")
    with pytest.raises(ValueError, match="batch_norm must be one of"):
        interpolate(one, two.model, batch_norm="mean")
