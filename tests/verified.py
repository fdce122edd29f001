"""Small networks whose operators are verified."""

from functools import partial

import torch
from cases import normal, seeded
from torch import nn
from torch.nn import functional as F

from landscape.curvature import fisher, ggn, hessian
from landscape.problem import Problem

TOLERATED = {torch.float64: 1e-4, torch.float32: 2e-2, torch.bfloat16: 0.3}
PRECISIONS = list(TOLERATED)


def perceptron(activation):
    return nn.Sequential(nn.Linear(12, 20), activation(), nn.Linear(20, 20), activation(), nn.Linear(20, 5))


def convolution():
    pooled = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(nn.Unflatten(1, (1, 3, 4)), *pooled, nn.Flatten(), nn.Linear(8, 5))


NETWORKS = {
    "relu": partial(perceptron, nn.ReLU),
    "gelu": partial(perceptron, nn.GELU),
    "max_pool": convolution,
}
OPERATORS = {
    "hessian": hessian,
    "ggn": ggn,
    "exact": fisher,
    "sampled": lambda p, **settings: fisher(p, "sampled", **settings),
    "empirical": lambda p, **settings: fisher(p, "empirical", **settings),
}


def problem_of(name, dtype, rows=24, seed=0, wrap=None):
    """Two batches, of `rows` samples and of one less."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = NETWORKS[name]()
    net.to(dtype)
    data = [
        (normal(n, 12, seed=seed + n, dtype=dtype), torch.randint(5, (n,), generator=seeded(n)))
        for n in (rows, rows - 1)
    ]
    return Problem(net if wrap is None else wrap(net), F.cross_entropy, data)


def vector_of(problem, seed=3):
    return normal(problem.size, seed=seed).to(problem.vector())
