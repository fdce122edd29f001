"""A small float64 network, batches for it, and steps of a rule around SGD."""

import torch
import torch.nn.functional as F
from torch import nn

from landscape.training import rules
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


def two_pass_rules(rho):
    """Every rule with at most two passes, for the network with a LayerNorm(5), 53 parameters."""
    vector = torch.randn(53, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return {
        "sam": rules.sam(rho),
        "sam p=1": rules.sam(rho, 1),
        "asam": rules.asam(rho),
        "fisher_sam": rules.fisher_sam(rho, 2.0),
        "gsam": rules.gsam(rho),
        "gsam scheduled": rules.gsam(rho, rho_min=rho / 2, lr_max=0.1),
        "eigen_sam": rules.eigen_sam(rho, 0.2, top=lambda: vector, period=2),
        "reverse_sam": rules.reverse_sam(rho),
        "rsam": rules.rsam(rho),
        "rsam later": rules.rsam(rho, plain_steps=2),
        "sam_on": rules.sam_on(rho),
        "ssam_f": rules.ssam_f(rho, fisher=lambda: vector**2, period=2),
        "ssam_d": rules.ssam_d(rho, period=2),
        "wsam": rules.wsam(rho),
        "looksam": rules.looksam(rho, period=3),
        "esam": rules.esam(rho),
        "friendly_sam": rules.friendly_sam(rho),
    }


def more_pass_rules(rho):
    return {
        "sam steps=3": rules.sam(rho, steps=3),
        "sam_second_order": rules.sam_second_order(rho),
        "egr": rules.egr(rho),
    }


def every_rule(rho):
    return two_pass_rules(rho) | more_pass_rules(rho)
