import copy

import pytest
import torch
from cases import make, normal
from torch import nn
from torch.optim.swa_utils import update_bn

from landscape.problem.batch_norm import as_buffers, batch_norm_layers, inference_flags, moments_recorded


def test_recorded_moments_are_those_of_update_bn_for_one_batch():
    case = make("conv_bn")
    model = copy.deepcopy(case.model)
    update_bn([case.inputs], model)
    with (
        moments_recorded(case.model) as moments,
        inference_flags(case.model.modules(), batch_statistics=True),
        torch.no_grad(),
    ):
        before = case.model[1].momentum, case.model[5].momentum
        case.model(case.inputs)
        assert (case.model[1].momentum, case.model[5].momentum) == before
    found = as_buffers(case.model, moments)
    assert set(found) == {f"{i}.running_{what}" for i in (1, 5) for what in ("mean", "var")}
    own = dict(model.named_buffers())
    for name, value in found.items():
        torch.testing.assert_close(value, own[name], rtol=1e-12, atol=1e-14)


def test_moments_are_pooled_over_units_not_averaged_over_batches():
    layer = nn.BatchNorm1d(3).double()
    x = normal(9, 3, 4) + 2
    with moments_recorded(layer) as moments, torch.no_grad():
        for batch in x.split([8, 1]):
            layer(batch)
    columns = x.transpose(0, 1).flatten(1)
    found = as_buffers(layer, moments)
    torch.testing.assert_close(found["running_mean"], columns.mean(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(found["running_var"], columns.var(1), rtol=1e-12, atol=0)


def test_flags_are_set_for_the_block_and_put_back():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.BatchNorm1d(2).eval())
    before = [m.training for m in model.modules()]
    for batch_statistics in (True, False):
        with inference_flags(model.modules(), batch_statistics=batch_statistics):
            assert [m.training for m in model] == [batch_statistics, False, batch_statistics]
        assert [m.training for m in model.modules()] == before


def test_only_layers_with_running_statistics_count_and_an_unused_one_keeps_its_own():
    model = nn.ModuleDict({"a": nn.BatchNorm1d(2), "b": nn.BatchNorm1d(2), "c": nn.BatchNorm1d(2, affine=False)})
    model["c"] = nn.BatchNorm1d(2, track_running_stats=False)
    assert list(batch_norm_layers(model)) == ["a", "b"]
    with moments_recorded(model) as moments:
        model["a"](normal(4, 2).float())
    assert set(as_buffers(model, moments)) == {"a.running_mean", "a.running_var"}


def test_hooks_are_removed_after_an_error():
    layer = nn.BatchNorm1d(2)
    with pytest.raises(ValueError, match="more than 1 value"), moments_recorded(layer):
        layer(torch.ones(1, 2))
    assert not layer._forward_pre_hooks
