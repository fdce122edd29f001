"""Steps in the course of a training: learning-rate schedulers, and state that is saved and loaded."""

import pytest
import torch
from step_cases import BASES, SGD, closure_for, data, every_rule, network, weights, wrapped
from torch import nn
from torch.optim import lr_scheduler

from landscape.training.rules import eigen_sam, gsam, sam
from landscape.training.sharpness_aware.step import SharpnessAware

SCHEDULERS = {
    "StepLR": lambda opt: lr_scheduler.StepLR(opt, 2),
    "MultiStepLR": lambda opt: lr_scheduler.MultiStepLR(opt, [1, 3]),
    "ConstantLR": lambda opt: lr_scheduler.ConstantLR(opt, 0.5, 2),
    "LinearLR": lambda opt: lr_scheduler.LinearLR(opt, 0.1, total_iters=3),
    "ExponentialLR": lambda opt: lr_scheduler.ExponentialLR(opt, 0.9),
    "PolynomialLR": lambda opt: lr_scheduler.PolynomialLR(opt, 4),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 4),
    "CosineAnnealingWarmRestarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 2),
    "CyclicLR": lambda opt: lr_scheduler.CyclicLR(opt, 0.01, 0.1, step_size_up=2),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(opt, 0.2, total_steps=5),
    "LambdaLR": lambda opt: lr_scheduler.LambdaLR(opt, lambda t: 1 / (t + 1)),
    "MultiplicativeLR": lambda opt: lr_scheduler.MultiplicativeLR(opt, lambda t: 0.7),
    "ReduceLROnPlateau": lambda opt: lr_scheduler.ReduceLROnPlateau(opt, patience=0),
    "SWALR": lambda opt: torch.optim.swa_utils.SWALR(opt, 0.01, anneal_epochs=3),
    "ChainedScheduler": lambda opt: lr_scheduler.ChainedScheduler([SCHEDULERS["ConstantLR"](opt)], opt),
    "SequentialLR": lambda opt: lr_scheduler.SequentialLR(
        opt, [SCHEDULERS["ConstantLR"](opt), SCHEDULERS["ExponentialLR"](opt)], [2]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_on_the_wrapper_does_what_it_does_on_the_base(name):
    """Without a warning, since those are errors."""
    models = network(), network()
    plain = torch.optim.SGD(models[0].parameters(), **SGD)
    found = []
    for model, opt in ((models[0], plain), (models[1], wrapped(models[1], sam(0.0)))):
        scheduler, seen = SCHEDULERS[name](opt), []
        for step in range(4):
            opt.step(closure_for(model, opt, *data(step)))
            scheduler.step(*([1.0] if name == "ReduceLROnPlateau" else []))
            group = getattr(opt, "base", opt).param_groups[0]
            seen.append((group["lr"], group["momentum"]))
        found.append(seen)
    assert found[0] == found[1]
    assert len(set(found[0])) > 1
    assert torch.equal(weights(models[0]), weights(models[1]))


def test_groups_are_shared_with_the_base():
    model = network()
    extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    model.register_parameter("extra", extra)
    base = torch.optim.SGD([p for p in model.parameters() if p is not extra], **SGD)
    opt = SharpnessAware(base, sam(0.1), model=model)
    assert isinstance(opt, torch.optim.Optimizer)
    opt.step(closure_for(model, opt, *data()))
    opt.add_param_group({"params": [extra], "lr": 3.0})
    assert base.param_groups[1]["params"] == [extra]
    assert base.param_groups[1]["momentum"] == 0.9
    assert opt.state is base.state
    assert len(opt.state) == 4


RESUMED = every_rule(0.3)


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("base", BASES)
def test_every_rule_resumes_to_the_bit_from_a_file(name, base, tmp_path):
    def make():
        model = network(nn.LayerNorm(5))
        return model, SharpnessAware(base(model.parameters(), **BASES[base]), RESUMED[name], model=model)

    def run(steps, model, opt):
        for step in steps:
            opt.step(closure_for(model, opt, *data(step)))

    (whole, opt), (first, part), (resumed, other) = make(), make(), make()
    run(range(5), whole, opt)
    run(range(3), first, part)
    torch.save({"model": first.state_dict(), "opt": part.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(state["model"])
    other.load_state_dict(state["opt"])
    assert other.param_groups is other.base.param_groups
    assert other.state is other.base.state
    run(range(3, 5), resumed, other)
    assert torch.equal(weights(resumed), weights(whole))


def test_eigen_sam_counts_its_steps_over_the_whole_training():
    calls = []

    def make():
        model = network()
        return model, wrapped(model, eigen_sam(0.3, top=lambda: calls.append(1), period=4))

    (model, opt), (_, resumed) = make(), make()
    for step in range(3):
        opt.step(closure_for(model, opt, *data(step)))
    resumed.load_state_dict(opt.state_dict())
    for step in range(3, 6):
        resumed.step(closure_for(resumed.model, resumed, *data(step)))
    assert len(calls) == 2  # at steps 0 and 4, not at the first step after loading


def test_the_state_of_another_rule_is_refused():
    with pytest.raises(ValueError, match="state must be of rule 'sam', got 'gsam'"):
        wrapped(network(), sam()).load_state_dict(wrapped(network(), gsam()).state_dict())


def test_a_state_that_was_loaded_elsewhere_goes_to_the_parameters_device():
    model = network().to("meta")
    opt = wrapped(model, eigen_sam(0.3, top=lambda: None))
    rule = {**opt.state_dict()["rule"], "state": {"step": 1, "v": torch.ones(43)}}
    opt.load_state_dict(opt.state_dict() | {"rule": rule})
    assert opt.rule_state["v"].is_meta
    assert opt.rule_state["step"] == 1
