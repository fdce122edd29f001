"""Which parameters a step has: groups, layout, ties, and those without gradients."""

import warnings
from math import sqrt

import pytest
import torch
from step_cases import closure_for, closure_of, data, network, wrapped
from torch import nn

from landscape.training.rules import Rule, sam
from landscape.training.sharpness_aware.step import SharpnessAware


class Branches(nn.Module):
    """Which parameters get a gradient is up to the caller."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.never = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3))
        self.frozen = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)


@pytest.mark.parametrize(("first", "second"), [("ab", "a"), ("a", "ab"), ("a", "a")])
def test_missing_gradients_count_as_zero_and_unused_parameters_stay_untouched(first, second):
    model, passes, after = Branches(), [], []
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    opt = SharpnessAware(base, sam(0.3), model=model)
    base.register_step_pre_hook(lambda *_: after.append([None if p.grad is None else p.grad.clone() for p in params]))
    params = [model.a, model.b, model.never]

    def closure():
        opt.zero_grad()
        used = first if not passes else second
        passes.append(model.b.detach().clone())
        loss = sum((getattr(model, name) ** 2).sum() for name in used)
        loss.backward()
        return loss

    opt.step(closure)
    n = sqrt(8 if first == "a" else 16)
    expected_a = torch.full((2,), 1 - 0.1 * 2 * (1 + 0.3 * 2 / n), dtype=torch.float64)
    torch.testing.assert_close(model.a.detach(), expected_a, rtol=1e-12, atol=0)
    assert torch.equal(passes[1] - 1 > 0, torch.tensor([first == "ab"] * 2))
    grad_b = after[0][1]
    if "b" not in first + second:
        assert grad_b is None
    elif second == "a":
        assert torch.equal(grad_b, torch.zeros(2, dtype=torch.float64))
    else:
        assert torch.equal(grad_b, torch.full((2,), 2.0, dtype=torch.float64))
    assert after[0][2] is None
    assert torch.equal(model.never, torch.ones(2, dtype=torch.float64))
    assert torch.equal(model.frozen, torch.ones(2, dtype=torch.float64))


def test_frozen_parameters_are_no_part_of_the_flat_vector():
    sizes = []

    def perturb(w, g, state):
        sizes.append(w.numel())
        return torch.ones_like(w), state

    model = Branches()
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), Rule("mine", perturb), model=model)
    for trainable in (True, False):
        model.b.requires_grad_(trainable)
        opt.step(closure_of(opt, lambda: torch.sum(model.a**2)))
    assert sizes == [6, 4]


def test_the_layout_follows_the_parameter_groups():
    seen = []

    def perturb(w, g, state, layout):
        seen.append((w, layout))
        return torch.zeros_like(w), state

    model = network(nn.LayerNorm(5))
    base = torch.optim.SGD(
        [{"params": [model[3].bias, model[1].weight]}, {"params": [model[0].weight], "lr": 0.2}], lr=0.1
    )
    opt = SharpnessAware(base, Rule("mine", perturb, layout=True), model=model)
    before = [p.detach().clone() for p in (model[3].bias, model[1].weight, model[0].weight)]
    opt.step(closure_for(model, opt, *data()))
    w, layout = seen[0]
    assert layout.names == ("3.bias", "1.weight", "0.weight")
    assert layout.is_weight == (False, False, True)
    assert all(torch.equal(a, b) for a, b in zip(layout.unflatten(w), before, strict=True))


def test_a_tied_parameter_counts_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).double()
    model[1].weight = model[0].weight
    sizes = []

    def perturb(w, g, state):
        sizes.append(w.numel())
        return torch.ones_like(w), state

    opt = wrapped(model, Rule("mine", perturb))
    opt.step(closure_for(model, opt, *data()))
    assert sizes == [16]


@pytest.mark.parametrize("setting", ["maximize", "differentiable"])
def test_a_base_that_goes_up_or_is_differentiated_is_refused(setting):
    model = network()
    with pytest.raises(ValueError, match=f"must go down the loss of which e goes up, in place, got {setting}=True"):
        SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1, **{setting: True}), sam(), model=model)
    first, *rest = model.parameters()
    opt = SharpnessAware(torch.optim.SGD([first], lr=0.1), sam(), model=model)
    with pytest.raises(ValueError, match=f"got {setting}=True"):
        opt.add_param_group({"params": rest, setting: True})
    assert len(opt.param_groups) == 1


def test_parameters_on_two_devices_are_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match="parameters must be on one device, got cpu, meta"):
        SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(), model=model)


@pytest.mark.parametrize(
    ("dtype", "rho", "told"), [(torch.bfloat16, 1e-3, 1), (torch.bfloat16, 1.0, 0), (torch.float32, 1e-3, 0)]
)
def test_an_e_that_half_precision_rounds_away_is_told(dtype, rho, told):
    torch.manual_seed(0)
    model = nn.Linear(64, 10).to(dtype)
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(rho), model=model)

    def closure():
        opt.zero_grad()
        loss = model(torch.ones(4, 64, dtype=dtype)).float().square().mean()
        loss.backward()
        return loss

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        opt.step(closure)
    assert ["round more than half of e away" in str(each.message) for each in found] == [True] * told
