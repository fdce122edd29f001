"""What an objective is in pass 2, also where a rule has no e or makes more passes than two."""

import pytest
import torch
import torch.nn.functional as F
from objective_cases import EXACT, X, Y, closure_for, criterion, network
from torch import nn
from training_cases import config, weights

from landscape.training import train
from landscape.training.objectives import AdversarialInputs, Mesa, Saf, TopSamples
from landscape.training.rules import egr, looksam, rsam, sam, sam_second_order
from landscape.training.sharpness_aware.step import SharpnessAware

TWICE = {  # the rules' e is zero, or there is none
    "sam": sam(0.0),
    "looksam": looksam(0.0, period=3),
    "rsam": rsam(0.3, plain_steps=9),
    "egr": egr(0.0),
    "every": sam(0.3),
}


@pytest.mark.parametrize("name", TWICE)
def test_without_e_the_base_steps_on_adversarial_inputs(name):
    """By hand: δ from the gradient at x, then the base's step along the gradient at x + δ, momentum and all."""
    model, twin, objective = network(), network(), AdversarialInputs(criterion, size=0.1)
    opt = SharpnessAware(
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), TWICE[name], model=model, twice=True
    )
    by_hand = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    if name == "every":
        opt = SharpnessAware(opt.base, sam(0.3), model=model, twice=True, every=100)
        opt.progress.steps = 1
    for _ in range(3):
        objective.start_step()
        opt.step(closure_for(model, opt, objective))
        objective.end_step(model)
        leaf = X.clone().requires_grad_()
        delta = 0.1 * torch.autograd.grad(F.cross_entropy(twin(leaf), Y), leaf)[0].sign()
        by_hand.zero_grad()
        F.cross_entropy(twin(X + delta), Y).backward()
        by_hand.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, **EXACT)


def test_two_calls_and_parts_make_pass_2_where_there_is_no_e():
    found = []
    for way in ("closure", "two calls", "parts"):
        model, objective = network(), AdversarialInputs(criterion, size=0.1)
        opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), egr(0.0), model=model, twice=True)
        closure = closure_for(model, opt, objective)
        objective.start_step()
        if way == "closure":
            opt.step(closure)
        elif way == "parts":
            opt.step([closure])
        else:
            closure()
            assert opt.first_step()
            closure()
            opt.second_step()
        found.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    torch.testing.assert_close(found[1], found[0], **EXACT)
    torch.testing.assert_close(found[2], found[0], **EXACT)


def test_twice_makes_no_second_pass_of_a_gradient_that_is_not_finite():
    model, seen = network(), []
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(0.0), model=model, twice=True)

    def closure():
        seen.append(1)
        opt.zero_grad()
        (model(X).sum() * float("inf")).backward()

    before = [p.detach().clone() for p in model.parameters()]
    with pytest.warns(UserWarning, match="the gradient of pass 1 is not finite"):
        opt.step(closure)
    assert len(seen) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_step_on_inputs_that_were_not_adversarial_warns_once():
    model, objective = network(), AdversarialInputs(criterion, size=0.1)
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(0.0), model=model)
    for step in range(2):
        objective.start_step()
        opt.step(closure_for(model, opt, objective))
        if step == 0:
            with pytest.warns(UserWarning, match=r"no pass 2, where adversarial inputs are .*twice=True"):
                objective.end_step(model)
        else:
            objective.end_step(model)


@pytest.mark.parametrize("make", [Saf, Mesa])
def test_objectives_of_pass_1_are_whole_where_e_is_zero(make):
    """SAF and MESA are in every pass: with radius 0 the base minimises them, to the bit."""
    found = []
    for wrap in (False, True):
        model, objective = network(), make(criterion, start=0)
        opt = torch.optim.SGD(model.parameters(), lr=0.5)
        opt = SharpnessAware(opt, sam(0.0), model=model) if wrap else opt
        for epoch in range(5):
            objective.start_epoch(epoch, model)
            objective.start_step()
            opt.step(closure_for(model, opt, objective))
            objective.end_step(model)
        found.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*found)


def test_the_choice_of_samples_is_one_function_for_a_rule_of_many_passes():
    """The rule's product with the Hessian is that of the chosen samples: their choice does not turn with ±h."""
    model, objective, seen = network(), TopSamples(criterion, gamma=0.5), []
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=1.0), sam_second_order(0.3), model=model)
    w = nn.utils.parameters_to_vector(model.parameters()).detach()
    objective.start_step()
    opt.step(closure_for(model, opt, objective, seen))
    moved = nn.utils.parameters_to_vector(model.parameters()).detach()

    def losses(at):
        named = dict(zip(dict(model.named_parameters()), at.split([20, 5, 15, 3]), strict=True))
        named = {name: part.view_as(model.get_parameter(name)) for name, part in named.items()}
        return criterion(torch.func.functional_call(model, named, X), Y)

    chosen = (losses(seen[1]) - losses(w)).topk(3).indices
    subset = lambda at: losses(at)[chosen].mean()  # noqa: E731
    g = torch.func.grad(lambda at: losses(at).mean())(w)
    g_adv, unit = torch.func.grad(subset)(w + 0.3 * g / g.norm()), g / g.norm()
    d = g_adv + 0.3 / g.norm() * torch.autograd.functional.hessian(subset, w) @ (g_adv - (g_adv @ unit) * unit)
    torch.testing.assert_close(w - moved, d, rtol=1e-7, atol=1e-8)


def test_the_bundled_trainer_trains_sgd_on_adversarial_inputs(tmp_path):
    adversarial = {"objective": "adversarial", "objective_settings": {"size": 1.0}}
    runs = {
        "plain": {"optimizer": "sgd"},
        "alone": {"optimizer": "sgd", **adversarial},
        "zero": {"optimizer": "sam", "rule_settings": {"rho": 0.0}, **adversarial},
    }
    plain, alone, zero = (weights(train(config(tmp_path / name, **run))) for name, run in runs.items())
    assert torch.equal(alone, zero)
    assert (alone - plain).norm() > 0.01
