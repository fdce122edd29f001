import copy
import pickle

import pytest
import torch
from step_cases import closure_for, data, network, weights
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from landscape.training.optimizers.lookahead import lookahead
from landscape.training.rules import sam
from landscape.training.sharpness_aware.step import SharpnessAware


def train(model, opt, steps, after=lambda: None):
    for step in steps:
        opt.step(closure_for(model, opt, *data(step)))
        after()


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=0.01)


def test_k_steps_forward_and_one_back_written_out():
    model, plain = network(), network()
    train(model, lookahead(sgd(model), k=3, alpha=0.4), range(7))
    slow = weights(plain)
    for begin in (0, 3):
        train(plain, sgd(plain), range(begin, begin + 3))
        slow = slow + 0.4 * (weights(plain) - slow)
        nn.utils.vector_to_parameters(slow.clone(), plain.parameters())
    train(plain, sgd(plain), [6])
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("base", [sgd, adam])
def test_the_whole_way_is_the_optimiser_itself(base):
    model, plain = network(), network()
    train(model, lookahead(base(model), k=2, alpha=1.0), range(5))
    train(plain, base(plain), range(5))
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("base", [sgd, adam])
def test_it_resumes_to_the_bit_under_sam(base, tmp_path):
    def make(model):
        return SharpnessAware(lookahead(base(model), k=3), sam(0.1), model=model)

    whole, first, resumed = network(), network(), network()
    train(whole, make(whole), range(8))
    opt = make(first)
    train(first, opt, range(5))
    torch.save(opt.state_dict(), tmp_path / "opt.pt")
    resumed.load_state_dict(first.state_dict())
    opt = make(resumed)
    opt.load_state_dict(torch.load(tmp_path / "opt.pt", weights_only=True))
    train(resumed, opt, range(5, 8))
    assert torch.equal(weights(whole), weights(resumed))


def test_torchs_averages_work_with_sam():
    model, seen = network(nn.BatchNorm1d(5)), []
    average = AveragedModel(model)
    opt = SharpnessAware(sgd(model), sam(0.1), model=model)

    def after():
        average.update_parameters(model)
        seen.append(weights(model))

    train(model, opt, range(4), after)
    torch.testing.assert_close(weights(average.module), torch.stack(seen).mean(0), rtol=1e-12, atol=1e-12)
    x, _ = data(9)
    update_bn([x], average)
    hidden = average.module[0](x)
    torch.testing.assert_close(average.module[1].running_mean, hidden.mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("before", [0, 3])
def test_a_copy_looks_ahead_too(way, wrap, before):
    """Also one that was taken before the first step, of an optimiser inside another."""
    model = network()
    opt = lookahead(torch.optim.AdamW(model.parameters(), lr=0.05), k=2)
    opt = SharpnessAware(opt, sam(0.1), model=model) if wrap else opt
    train(model, opt, range(before))
    model_2, opt_2 = way((model, opt))
    at = weights(model)
    train(model_2, opt_2, range(before, before + 4))
    assert torch.equal(weights(model), at)
    train(model, opt, range(before, before + 4))
    assert torch.equal(weights(model), weights(model_2))
    base = opt_2.base if wrap else opt_2
    assert isinstance(base, torch.optim.AdamW)
    assert type(base).__name__ == "AdamW"
    assert base.param_groups[0]["lookahead_steps"] == before + 4


def test_it_looks_ahead_once():
    opt = lookahead(torch.optim.SGD(network().parameters(), lr=0.1))
    with pytest.raises(ValueError, match="must not look ahead yet"):
        lookahead(opt)
