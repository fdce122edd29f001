"""A small float64 network, batches for it, and steps of a rule around SGD."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.linalg.operator import MatrixOperator
from landscape.training.rules import (
    RULES,
    eigen_sam,
    entropy_sgd,
    exact_fisher_sam,
    fisher_sam,
    gsam,
    looksam,
    rsam,
    sam,
    ssam_d,
    ssam_f,
)
from landscape.training.sharpness_aware.step import SharpnessAware

SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
BASES = {torch.optim.SGD: SGD, torch.optim.AdamW: {"lr": 0.01, "weight_decay": 0.1}}


def data(seed=0, count=12):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (count,), generator=generator)


def network(*extra):
    """43 parameters and those of `extra`."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), *extra, nn.Tanh(), nn.Linear(5, 3)).double()


def closure_of(opt, loss):
    """A closure of what `loss()` gives."""

    def closure():
        opt.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def closure_for(model, opt, x, y, passes=None):
    """A closure of the cross entropy; each pass appends where it was to `passes`."""

    def loss():
        if passes is not None:
            passes.append(weights(model))
        return F.cross_entropy(model(x), y)

    return closure_of(opt, loss)


def weights(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def wrapped(model, rule, **settings):
    return SharpnessAware(torch.optim.SGD(model.parameters(), **(SGD | settings)), rule, model=model)


class Asked(TorchDispatchMode):
    """How often a value is asked for, for which a GPU would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, _types, arguments=(), settings=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(settings or {}))


def two_pass_rules(rho):
    """Every rule but `more_pass_rules`, for the network with a LayerNorm(5), 53 parameters; some at other settings."""
    vector = torch.randn(53, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    F = MatrixOperator(torch.outer(vector, vector))
    chosen = {
        "sam p=1": sam(rho, 1),
        "fisher_sam": fisher_sam(rho, 2.0),
        "exact_fisher_sam": exact_fisher_sam(rho, 0.1, operator=lambda: F),
        "gsam scheduled": gsam(rho, rho_min=rho / 2, lr_max=0.1),
        "gsam adaptive": gsam(rho, adaptive=True),
        "gsam both": gsam(rho, rho_min=rho / 2, lr_max=0.1, minimise="f, h", adaptive=True),
        "gsam f_p + h": gsam(rho, minimise="f_p + h"),
        "eigen_sam": eigen_sam(rho, 0.2, top=lambda: vector, period=2),
        "rsam later": rsam(rho, plain_steps=2),
        "ssam_f": ssam_f(rho, fisher=lambda: vector**2, period=2),
        "ssam_d": ssam_d(rho, period=2),
        "looksam": looksam(rho, period=3),
    }
    named = chosen | more_pass_rules(rho)
    return {name: RULES[name](rho) for name in RULES if name not in named} | chosen


def more_pass_rules(rho):
    """A rule of more than two passes is named here."""
    plain = {name: RULES[name](rho) for name in ("sam_second_order", "egr")}
    return {"sam steps=3": sam(rho, steps=3), "entropy_sgd": entropy_sgd(0.5, 3)} | plain


def natural_rules(rho):
    """Rules of the natural gradient: with radius 0 they are not the base."""
    vector = torch.randn(53, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    F = MatrixOperator(torch.outer(vector, vector))
    return {
        "fisher_sam natural": fisher_sam(rho, 2.0, natural=True),
        "exact_fisher_sam natural": exact_fisher_sam(rho, 0.1, operator=lambda: F, natural=True),
    }


def every_rule(rho):
    return two_pass_rules(rho) | more_pass_rules(rho) | (natural_rules(rho) if rho else {})
