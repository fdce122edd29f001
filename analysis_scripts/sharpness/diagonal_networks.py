"""Diagonal networks x ↦ <u ∘ v, x> on one sparse regression: their training and their sharpnesses.

What geodesic_vs_adaptive.py compares over data sets; finished pieces are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.frame import kept_tensors


@dataclass(frozen=True)
class Setting:
    """What is trained and measured on one data set; ρ was fixed before any τ was seen, the other radii are a check."""

    networks: int = 50
    inputs: int = 200  # d
    samples: int = 120  # n
    nonzero: int = 20  # of β*
    loss: float = 1e-5  # mean over all samples, where a network's training ends
    steps: int = 300_000  # at most
    radii: Sequence[float] = (0.1, 0.01, 1.0)
    ascent: int = 2000  # steps at most


class Products(nn.Module):
    """x ↦ <u ∘ v, x>."""

    def __init__(self, u: Tensor, v: Tensor) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(u.clone()), nn.Parameter(v.clone())  # (d,)

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.u * self.v)  # (n,)


@dataclass(frozen=True)
class Piece:
    """The networks of one data set from one range of starts."""

    setting: Setting
    starts: Sequence[float]
    seed: int


def regression(setting: Setting, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (n, d), y (n,) and β* (d,), all entries normal but for the zeros of β*."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(setting.samples, setting.inputs, generator=source, dtype=torch.float64)
    truth = torch.randn(setting.inputs, generator=source, dtype=torch.float64)
    truth[torch.randperm(setting.inputs, generator=source)[setting.nonzero :]] = 0
    return x, x @ truth, truth


def train(piece: Piece) -> dict[str, Tensor]:
    """u and v (R, d) and the standard deviations of their starts (R,).

    Gradient descent, u −= lr g ∘ v and v −= lr g ∘ u with g = 2 K(u ∘ v − β*): lr is half the inverse of a bound of the
    Hessian's eigenvalues, so that it ends from every start. A network that is done stays as it is.
    """
    x, _, truth = regression(piece.setting, piece.seed)
    K, count = x.T @ x / len(x), piece.setting.networks
    low, high = piece.starts
    init = low * (high / low) ** torch.linspace(0, 1, count, dtype=torch.float64)
    source = torch.Generator().manual_seed(1000 + piece.seed)
    u, v = torch.randn(2, count, len(truth), generator=source, dtype=torch.float64) * init[:, None]
    left, U, V = torch.arange(count), u.clone(), v.clone()
    top = torch.linalg.eigvalsh(K)[-1]
    for step in range(piece.setting.steps):
        error = U * V - truth
        g = 2 * error @ K
        if step % 100 == 0:
            u[left], v[left] = U, V
            more = (g * error).sum(1) / 2 > piece.setting.loss
            if not more.any():
                break
            left, U, V, g = left[more], U[more], V[more], g[more]
        bound = 2 * top * (U.square() + V.square()).amax(1) + g.abs().amax(1)
        U, V = U - g * V * (0.5 / bound)[:, None], V - g * U * (0.5 / bound)[:, None]
    return {"u": u, "v": v, "init": init}


def sharpness(setting: Setting, data: tuple[Tensor, Tensor], u: Tensor, v: Tensor, rho: float) -> dict[str, Any]:
    """The three sharpnesses of one network, by the same ascent."""
    problem = ls.Problem(Products(u, v), F.mse_loss, data)
    origin, steps = problem.loss_and_gradient(), setting.ascent
    found = {"adaptive": ls.metrics.worst_case_gap(problem, rho=rho, geometry="adaptive", steps=steps, origin=origin)}
    for metric in ("inv", "mix"):
        found[metric] = ls.metrics.geodesic(
            problem, rho=rho, metric=metric, weight_pairs=[("u", "v")], steps=steps, origin=origin
        )
    return found


def measure(piece: Piece, runs: str) -> dict[str, Tensor]:
    """Gap, loss and start of each network, (R,); its sharpnesses and whether the ascents converged, (radii, 3, R)."""

    def compute() -> dict[str, Tensor]:
        setting, networks = piece.setting, train(piece)
        x, y, truth = regression(setting, piece.seed)
        product_ = networks["u"] * networks["v"]
        found = [
            [list(sharpness(setting, (x, y), u, v, rho).values()) for rho in setting.radii]
            for u, v in zip(networks["u"], networks["v"], strict=True)
        ]
        values = [[[float(own.value) for own in of_rho] for of_rho in of_one] for of_one in found]
        ended = [[[own.details["converged"] for own in of_rho] for of_rho in of_one] for of_one in found]
        return {
            "init": networks["init"],
            "loss": (product_ @ x.T - y).square().mean(1),
            "gap": (product_ - truth).square().sum(1),
            "sharpness": torch.tensor(values, dtype=torch.float64).permute(1, 2, 0),
            "converged": torch.tensor(ended, dtype=torch.float64).permute(1, 2, 0),
            "constant": 2 * torch.linalg.eigvalsh(x.T @ x / len(x))[-1:],  # times ρ²: mix where no geodesic ends
        }

    low, high = piece.starts
    return kept_tensors(Path(runs) / f"data{piece.seed}-starts{low:g}-{high:g}", piece, compute)
