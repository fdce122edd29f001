"""What the activation functions of a network give: its norm, and the share of neurons that are active.

Rectifiers are seen wherever they are called, as modules or as functions, and counted for the module that runs then. A
neuron is active on a sample where its activation is positive. SAM lowers both, most in the first layers of an MLP.
Source: Chen, Hsieh and Gong 2022, arXiv:2106.01548, section 4.4 (sparsity); Andriushchenko et al. 2023,
arXiv:2305.16292 (low-rank features through inactive neurons).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from landscape.checks import require
from landscape.metrics.hooks import CallsSeen, running
from landscape.metrics.metric import measured
from landscape.problem import Problem
from landscape.storage.results import Estimate

RECTIFIERS = {
    *(F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
    *(F.relu6, F.gelu, F.silu, F.mish, F.elu, F.leaky_relu),
}


@dataclass(frozen=True, eq=False)
class Activations:
    """Activations of the L modules that call a rectifier, in the order of their first call."""

    names: Sequence[str]  # L
    norm: Tensor  # (L,), mean over samples and calls of the Euclidean norm
    active: Tensor  # (L,), share of positive entries
    entries: Tensor  # (L,), numbers seen, over all samples and calls


def activations(problem: Problem) -> Activations:
    """Norm and share of active neurons for each module, on all the data at w; one forward pass.

    Raises:
        ValueError: if the network calls no rectifier (relu, relu6, gelu, silu, mish, elu, leaky_relu), or the data lie
            with several processes.
    """
    problem.require_alone("activations")
    sums: dict[str, Tensor] = {}  # samples, norms, positive entries, entries

    with running(problem.model) as stack:

        def seen(func: Any, _args: Any, _given: Any, output: Any) -> None:
            if func not in RECTIFIERS:
                return
            rows = output.detach().flatten(1).double()
            counts = [len(rows), rows.norm(dim=1).sum(), (rows > 0).sum(), rows.numel()]
            name = stack[-1] if stack else ""
            sums[name] = sums.get(name, 0) + torch.tensor(
                [float(count) for count in counts], dtype=torch.float64, device="cpu"
            )

        with CallsSeen(seen):
            problem.loss()
    require(len(sums) > 0, "the network must call a rectifier such as relu or gelu, got none")
    samples, norms, positive, entries = torch.stack(list(sums.values()), dim=1)
    return Activations(list(sums), norm=norms / samples, active=positive / entries, entries=entries)


@measured
def active_neurons(problem: Problem, *, generator: torch.Generator | None = None) -> Estimate:
    """Share of active neurons of the whole network, each entry of each activation counted once.

    Raises:
        ValueError: if the network calls no rectifier.
    """
    found = activations(problem)
    return Estimate.exact(float((found.active * found.entries).sum() / found.entries.sum()))
