"""Arguments of rules and optimisers out of range: one line says what was expected."""

from functools import partial
from math import inf, nan

import pytest
import torch
from rule_cases import LAYOUT, G, W

from landscape.training import NaturalGradient, lookahead
from landscape.training.optimizers.adahessian import AdaHessian
from landscape.training.rules import (
    asam,
    egr,
    eigen_sam,
    entropy_sgd,
    esam,
    exact_fisher_sam,
    fisher_sam,
    friendly_sam,
    gsam,
    looksam,
    random_perturbation,
    reverse_sam,
    rsam,
    sam,
    sam_on,
    sam_second_order,
    ssam_d,
    ssam_f,
    wsam,
)
from landscape.vectors import Layout


def made(kind, **settings):
    return partial(kind, [torch.zeros(1, requires_grad=True)], **settings)


BAD = [
    (lambda: sam(-0.1), "rho must be finite and at least 0, got -0.1"),
    (lambda: sam(nan), "rho must be finite and at least 0, got nan"),
    (lambda: sam(0.1, 0.5), r"p must be in \[1, inf\], got 0.5"),
    (lambda: sam(0.1, nan), r"p must be in \[1, inf\], got nan"),
    (lambda: asam(eta=-1.0), "eta must be"),
    (lambda: asam(rho=nan), "rho must be"),
    (lambda: asam(p=0), "p must be"),
    (lambda: fisher_sam(rho=-1.0), "rho must be"),
    (lambda: fisher_sam(eta=nan), "eta must be"),
    (lambda: gsam(alpha=-0.1), "alpha must be"),
    (lambda: gsam(rho=inf), "rho must be"),
    (lambda: eigen_sam(rho=-1.0, top=lambda: None), "rho must be"),
    (lambda: eigen_sam(alpha=nan, top=lambda: None), "alpha must be"),
    (lambda: eigen_sam(top=lambda: None, period=0), "period must be an integer at least 1, got 0"),
    (lambda: eigen_sam(top=lambda: torch.ones(3)).perturb(W, G, None), r"top\(\) must be \(5,\)"),
    (lambda: sam(steps=0), "steps must be an integer at least 1, got 0"),
    (lambda: reverse_sam(-1.0), "rho must be"),
    (lambda: rsam(a=1), "a must not be 1"),
    (lambda: rsam(a=0.0), "a must be positive"),
    (lambda: rsam(plain_steps=-1), "plain_steps must be"),
    (lambda: sam_on(eta=-1.0), "eta must be"),
    (
        lambda: sam_on().perturb(W, G, None, Layout(LAYOUT.names, LAYOUT.shapes, (True, False), (False, False))),
        "sam_on must have normalisation layers to perturb, got none; use sam",
    ),
    (lambda: esam(beta=0.0), r"beta must be in \(0, 1\], got 0.0"),
    (lambda: ssam_d(sparsity=1.0), r"sparsity must be in \[0, 1\), got 1.0"),
    (lambda: ssam_d(drop=1.5), r"drop must be in \[0, 1\], got 1.5"),
    (lambda: ssam_d(total=0), "total must be an integer at least 1, got 0"),
    (lambda: ssam_d(period=0), "period must be an integer at least 1, got 0"),
    (lambda: ssam_f(rho=-1.0, fisher=lambda: G), "rho must be"),
    (lambda: ssam_f(fisher=lambda: torch.ones(3)).perturb(W, G, None), r"fisher\(\) must be \(5,\)"),
    (lambda: gsam(rho_min=0.1), r"rho_min needs an lr_max above lr_min, got lr_max=None, lr_min=0.0"),
    (lambda: gsam(rho_min=0.1, lr_max=0.1, lr_min=0.1), "rho_min needs an lr_max above lr_min"),
    (lambda: gsam(rho_min=-0.1, lr_max=0.1), "rho_min must be finite and at least 0"),
    (lambda: wsam(gamma=1.0), r"gamma must be in \[0, 1\), got 1.0"),
    (lambda: looksam(period=0), "period must be an integer at least 1, got 0"),
    (lambda: looksam(alpha=-1.0), "alpha must be"),
    (lambda: friendly_sam(sigma=-1.0), "sigma must be"),
    (lambda: friendly_sam(lmbda=1.0), r"lmbda must be in \[0, 1\), got 1.0"),
    (lambda: exact_fisher_sam(damping=0.0, operator=list), "damping must be positive"),
    (lambda: exact_fisher_sam(products=0, operator=list), "products must be an integer at least 1"),
    (lambda: entropy_sgd(0.0), "gamma must be positive"),
    (lambda: entropy_sgd(steps=0), "steps must be an integer at least 1"),
    (lambda: entropy_sgd(alpha=0.0), r"alpha must be in \(0, 1\], got 0.0"),
    (lambda: entropy_sgd(noise=-1.0), "noise must be"),
    (lambda: random_perturbation(seed=-1), "seed must be"),
    (lambda: egr(-0.1), r"rho must be finite and at least 0, got -0\.1"),
    (lambda: sam_second_order(-0.1), r"rho must be finite and at least 0, got -0\.1"),
    (made(AdaHessian, lr=-1.0), "lr must be"),
    (made(AdaHessian, betas=(0.9, 1.0)), r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
    (made(AdaHessian, betas=[0.9]), r"betas must be two numbers in \[0, 1\), got \[0.9\]"),
    (made(AdaHessian, hessian_power=0.0), "hessian_power must be positive"),
    (made(AdaHessian, period=0), "period must be an integer at least 1"),
    (made(AdaHessian, block=0), "block must be an integer at least 1"),
    (made(NaturalGradient, lr=-1.0), "lr must be"),
    (made(NaturalGradient, damping=0.0), "damping must be positive"),
    (made(NaturalGradient, damping=nan, adapt=False), "damping must be finite"),
    (made(NaturalGradient, products=0), "products must be an integer at least 1"),
    (made(NaturalGradient, tol=0.0), "tol must be positive"),
    (lambda: lookahead(made(torch.optim.SGD)(), k=0), "k must be an integer at least 1"),
    (lambda: lookahead(made(torch.optim.SGD)(), alpha=0.0), r"alpha must be in \(0, 1\]"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_arguments_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
