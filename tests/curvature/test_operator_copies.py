"""Operators are pickled where model and data are: a worker's copy gives the same products, to the bit."""

import pickle
from copy import deepcopy
from functools import partial

import pytest
import torch
from cases import normal, seeded
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from landscape.curvature import fisher, ggn, hessian, hessian_blocks
from landscape.curvature.blocks import direct_sum, layers
from landscape.problem import Problem

OPERATORS = {
    "hessian": hessian,
    "forward over reverse": partial(hessian, mode="forward_over_reverse"),
    "hessian by differences": partial(hessian, mode="central_differences"),
    "ggn": ggn,
    "ggn by differences": partial(ggn, mode="central_differences"),
    "exact": fisher,
    "sampled": partial(fisher, kind="sampled"),
    "empirical": partial(fisher, kind="empirical"),
    "block": lambda problem: hessian_blocks(problem)["3"],
    "direct sum": lambda problem: direct_sum(problem, layers(problem)),
}


@pytest.fixture
def problem():
    """Batch statistics of shuffled batches: the order of the data counts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    data = TensorDataset(normal(24, 5), torch.randint(3, (24,), generator=seeded(0)))
    loader = DataLoader(data, batch_size=7, shuffle=True, generator=torch.Generator().manual_seed(1))
    return Problem(net, F.cross_entropy, loader, batch_norm="batch")


@pytest.mark.parametrize("copied", [lambda A: pickle.loads(pickle.dumps(A)), deepcopy])
@pytest.mark.parametrize("kind", OPERATORS)
def test_a_copy_gives_the_same_products(kind, copied, problem):
    A = OPERATORS[kind](problem)
    v = normal(A.shape[0], seed=3)
    fresh = copied(A)
    found = A @ v
    used = copied(A)  # without its kept graphs
    for copy in (fresh, used):
        assert (copy @ v).equal(found)
    assert (used.mode, used.reason, used.verified) == (A.mode, A.reason, A.verified)
    assert (A @ v).equal(found)


def test_what_cannot_be_pickled_is_named():
    net = nn.Linear(2, 2)
    problem = Problem(net, lambda z, t: (z - t).square().mean(), [(torch.ones(2, 2), torch.ones(2, 2))])
    with pytest.raises(Exception, match="lambda"):
        pickle.dumps(hessian(problem))
