"""Bases of a library and of one's own code: steps against formulas, runs of the trainer, and what is refused."""

import copy
import pickle
import sys
from functools import partial

import pytest
import pytorch_optimizer as library
import torch
from step_cases import closure_for, data, network, weights, wrapped
from training_cases import config, cut_short, rows, state
from training_cases import weights as weights_of

from landscape.training import TrainConfig, lookahead, train
from landscape.training.optimizers.by_name import named_optimizer
from landscape.training.rules import sam
from landscape.training.sharpness_aware.step import SharpnessAware

LR, DECAY, RHO = 0.1, 0.02, 0.3


def lamb(p, d, kept, published=False):
    """You et al. 2020, version 3, the norm of w at most 10; the library's default divides lr by 1 − .9ᵗ besides."""
    kept["step"] = step = kept.get("step", 0) + 1
    rate = LR if published else LR / (1 - 0.9**step)
    kept["m"] = 0.9 * kept.get("m", 0) + 0.1 * d
    kept["v"] = 0.999 * kept.get("v", 0) + 0.001 * d**2
    w, u = (1 - LR * DECAY) * p, kept["m"] / (kept["v"].sqrt() + 1e-6)
    return w - rate * w.norm().clamp(max=10) / (u.norm() + 1e-6) * u


def lars(p, d, kept):
    """You et al. 2017; vectors as in SGD."""
    if p.ndim > 1:
        d = 0.5 * p.norm() / (d.norm() + DECAY * p.norm()) * (d + DECAY * p)
    kept["m"] = 0.9 * kept.get("m", 0) + d
    return p - LR * kept["m"]


def adam_mini(p, d, kept):
    """Zhang et al. 2024: one second moment for each of these tensors."""
    kept["step"] = step = kept.get("step", 0) + 1
    kept["m"] = 0.9 * kept.get("m", 0) + 0.1 * d
    kept["v"] = 0.999 * kept.get("v", 0) + 0.001 * (d**2).mean()
    scale = (kept["v"] / (1 - 0.999**step)).sqrt() + 1e-8
    return (1 - LR * DECAY) * p - LR * kept["m"] / (1 - 0.9**step) / scale


FORMULAS = {"Lamb": (lamb, {}), "LARS": (lars, {"trust_coefficient": 0.5}), "AdamMini": (adam_mini, {})}


def made(name, model):
    base = named_optimizer(f"pytorch_optimizer:{name}", model, LR, DECAY, FORMULAS[name][1])
    return SharpnessAware(base, sam(RHO), model=model)


@pytest.mark.parametrize("name", [*FORMULAS, "Lamb as published"])
def test_sam_around_it_is_the_formula(name):
    model, twin = network(), network()
    if name in FORMULAS:
        opt, formula = made(name, model), FORMULAS[name][0]
    else:
        base = library.Lamb(model.parameters(), lr=LR, weight_decay=DECAY, adam_debias=True)
        opt, formula = SharpnessAware(base, sam(RHO), model=model), partial(lamb, published=True)
    kept = [{} for _ in twin.parameters()]

    def gradient(step):
        loss = torch.nn.functional.cross_entropy(twin(data(step)[0]), data(step)[1])
        return torch.autograd.grad(loss, list(twin.parameters()))

    for step in range(3):
        opt.step(closure_for(model, opt, *data(step)))
        w, g = [p.detach().clone() for p in twin.parameters()], gradient(step)
        norm = torch.cat([part.flatten() for part in g]).norm()
        with torch.no_grad():
            for p, part in zip(twin.parameters(), g, strict=True):
                p.add_(RHO * part / norm)
        d = gradient(step)
        with torch.no_grad():
            for p, at, part, own in zip(twin.parameters(), w, d, kept, strict=True):
                p.copy_(formula(at, part, own))
    exact = 1e-6 if name == "AdamMini" else 1e-12  # whose means are float32
    torch.testing.assert_close(weights(model), weights(twin), rtol=exact, atol=exact)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_copies_of_it_step_alike(name, way, ahead):
    model = network()
    opt = made(name, model)
    if ahead:
        opt.base = lookahead(opt.base, k=2)
    for step in range(3):
        opt.step(closure_for(model, opt, *data(step)))
    model_2, opt_2 = way((model, opt))
    assert getattr(opt_2.base, "model", model_2) is model_2
    for step in range(3, 6):
        for each in ((model, opt), (model_2, opt_2)):
            each[1].step(closure_for(*each, *data(step)))
    assert torch.equal(weights(model), weights(model_2))
    alone = way(opt.base)  # of which torch's copies lose what is in no group
    assert not ahead or alone.maximize is False


# --- the trainer


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("optimizer", ["plain", "sam"])
def test_a_run_with_it_goes_on_to_the_same_weights(name, optimizer, tmp_path, monkeypatch):
    settings = {"base": f"pytorch_optimizer:{name}", "optimizer": optimizer, "lr": 0.02, "epochs": 2}
    whole, cut = train(config(tmp_path / "whole", **settings)), config(tmp_path / "cut", **settings)
    cut_short(cut, 4, monkeypatch)
    train(cut)
    assert torch.equal(state(tmp_path / "cut"), state(whole))
    assert rows(tmp_path / "cut") == rows(whole)


OWN = """
import torch

class Signs(torch.optim.SGD):
    def __init__(self, params, lr, power=1.0):
        super().__init__(params, lr=lr)

def two_groups(model, lr, factor=1.0):
    first, *others = model.parameters()
    return torch.optim.SGD([{"params": others, "lr": factor * lr}, {"params": [first], "rho": 0.0}], lr=lr)

def other(params, lr):
    return [*params]

class Counts(torch.optim.SGD):
    steps = 0
    def step(self, closure=None):
        self.steps += 1
        self.param_groups[0]["lr"] /= self.steps
        super().step(closure)
"""


def test_a_class_and_a_function_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    one = config(tmp_path / "one", base="own.py:Signs", base_settings={"power": 2.0}, weight_decay=0.0, momentum=0.0)
    assert one.base == f"{tmp_path / 'own.py'}:Signs"
    plain = config(tmp_path / "plain", weight_decay=0.0, momentum=0.0)
    assert torch.equal(weights_of(train(one)), weights_of(train(plain)))
    two = config(tmp_path / "two", base="own.py:two_groups", weight_decay=0.0, optimizer="sam")
    train(two)
    assert TrainConfig.from_yaml(tmp_path / "two" / "config.json", folder="elsewhere").base == two.base


QUERIES = """
import torch

class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__()
        self.flat, self.q_proj, self.head = torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Linear(8, 10)
"""


def test_a_base_that_cannot_step_on_the_networks_own_weights_says_so_before_the_first_step(tmp_path):
    (tmp_path / "own.py").write_text(QUERIES)
    settings = {"model": f"{tmp_path}/own.py:Net", "model_settings": {}, "base": "pytorch_optimizer:AdamMini"}
    with pytest.raises(
        ValueError, match=r"AdamMini' must step along .grad, got on these weights: shape '\[-1, 131072\]'"
    ):
        train(config(tmp_path / "run", **settings))
    heads = {"num_embeds": 8, "num_heads": 2}
    train(config(tmp_path / "run_2", base_settings=heads, lr=0.01, epochs=1, **settings))


REFUSED = [
    ("Larz", {}, "base must name a function in pytorch_optimizer, got 'Larz'"),
    ("CosineScheduler", {}, "base must be a torch.optim.Optimizer, got 'pytorch_optimizer:CosineScheduler'"),
    ("Lamb", {"bets": 1}, "must fit 'pytorch_optimizer:Lamb', which has no bets"),
    ("Lamb", {"betas": [2, 1]}, r"cannot be made with .*'betas': \[2, 1\]}: beta1 must be in"),
    ("Muon", {}, "cannot be made with"),
    ("SAM", {}, "which has no lr"),
    ("A2Grad", {}, "the base must have an lr in each parameter group, got A2Grad|which has no"),
    ("AdaHessian", {}, "got AdaHessian, which asks a closure for the loss at other weights, or for second derivatives"),
    ("SpectralSphere", {}, "must step along .grad, got on these weights: SpectralSphere only supports 2D"),
    ("ScheduleFreeSGD", {}, r"has train\(\) and eval\(\), which the trainer does not call"),
    ("SCION", {}, "cannot go on from its saved state: it holds more than tensors and plain values"),
]


@pytest.mark.parametrize(("name", "settings", "message"), REFUSED, ids=[f"{row[0]} {row[1]}" for row in REFUSED])
def test_what_cannot_be_a_base_of_the_trainer_is_refused_when_it_is_named(name, settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        TrainConfig(folder=".", base=f"pytorch_optimizer:{name}", base_settings=settings)
    assert "\n" not in str(caught.value)


def test_own_code_that_makes_no_optimiser_or_keeps_what_no_state_has(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    for name, settings, message in (
        ("other", {}, "must make an optimiser, got list"),
        ("Counts", {}, "it keeps more than its state"),
        ("two_groups", {"factor": 0.1}, "must have one lr for all groups"),
    ):
        with pytest.raises(ValueError, match=message):
            TrainConfig(folder=".", base=f"{tmp_path}/own.py:{name}", base_settings=settings, weight_decay=0.0)


def test_a_library_that_is_not_there_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ImportError, match=r"needs pytorch_optimizer; pip install 'landscape-toolkit\[optimizers\]'"):
        TrainConfig(folder=".", base="pytorch_optimizer:Lamb")


# --- what SharpnessAware cannot have as a base


def wrapped_again(parameters):
    model = torch.nn.Module()
    model.all = torch.nn.ParameterList(parameters)
    return wrapped(model, sam())


NO_BASES = [
    (partial(library.LARS, maximize=True), "must go down the loss"),
    (partial(torch.optim.AdamW, capturable=True), "capturable=True needs parameters on a GPU, got cpu"),
    (partial(library.SAM, base_optimizer=torch.optim.SGD, lr=0.1), "got SAM, which makes two passes itself"),
    (wrapped_again, "got SharpnessAware, which makes two passes itself"),
    (library.SophiaH, "got SophiaH, which asks a closure .* or for second derivatives"),
    (library.A2Grad, "must have an lr in each parameter group, got A2Grad"),
    (lambda p: library.SafeFP16Optimizer(torch.optim.SGD(p, lr=0.1)), "must be a torch.optim.Optimizer with parameter"),
]


@pytest.mark.parametrize(("make", "message"), NO_BASES)
def test_a_base_that_cannot_be_is_refused_when_it_is_made(make, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        SharpnessAware(make(model.parameters()), sam(), model=model)


def test_a_base_whose_copy_is_broken_says_so():
    model = network()
    opt = SharpnessAware(library.Lookahead(torch.optim.SGD(model.parameters(), lr=0.1)), sam(), model=model)
    for way in (copy.deepcopy, pickle.dumps):
        with pytest.raises(ValueError, match=r"the base Lookahead cannot be copied: .*; keep its state_dict"):
            way(opt)
    opt = SharpnessAware(library.ADOPT(model.parameters(), lr=0.1), sam(), model=model)
    with pytest.raises(ValueError, match=r"the base ADOPT cannot be pickled: .*; keep its state_dict"):
        pickle.dumps(opt)
