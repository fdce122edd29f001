"""SAM against its second- and third-order stochastic differential equations, on a small network.

A step of SAM on batch γ is w ← w − lr d, d = ∇L_γ(w + ρĝ), ĝ = g/|g|, g = ∇L_γ(w). In powers of ρ
    d = g + ρ H_γ ĝ + ½ ρ² ∇³L_γ[ĝ, ĝ] + O(ρ³) = ∇_w [f(0) + ρ f'(0) + ½ ρ² f''(0)] + O(ρ³),  f(s) = L_γ(w + su),
with u = ĝ held fixed under ∇_w. As Hĝ = ∇|g|, the mean of the first two terms is ∇(L + ρ E|g|): the drift of the
second-order SDE (Compagnoni et al. 2023, arXiv:2301.08203); with the third term it is that of the third-order one (Luo
et al. 2024, arXiv:2501.12666). Time is t = step · lr, and a step's variance lr² Σ over lr makes
    dw = −E d dt + √lr Σ^½ dB,  Σ = Cov d;
here Σ is the covariance of the truncated d itself, so it has the papers' terms up to ρ (and some beyond).

The images are dealt once into M batches; each step takes one of them at random. So E and Σ are exact sums over M.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.digits_steps import closure_of
from analysis_scripts._shared.frame import Arrays, command, kept, legend_over, publish
from analysis_scripts._shared.over_seeds import difference, verdict
from landscape.curvature.forward_over_reverse import dual_rules_loaded
from landscape.data import digits
from landscape.plots import plot_seeds
from landscape.plots.style import BLUE, RED
from landscape.side_effects import random_state_kept
from landscape.vectors import Vector, flatten, layout_of

QUANTITIES = {  # the six of Luo et al.
    "loss": "training loss",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "weight_norm": "|w|",
    "gradient_norm": "|∇L|",
    "lambda_max": "λmax",
}
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "sam": ("SAM", {"color": "#000000"}),
    "second": ("second-order SDE", {"color": BLUE, "linestyle": ":"}),
    "third": ("third-order SDE", {"color": RED, "linestyle": "--"}),  # at rho = 0 it lies on the second-order one
}
ORDERS = {"second": 1, "third": 2}  # the highest power of rho in the drift


@dataclass(frozen=True)
class Config:
    """What is simulated; every number of the figure follows from it."""

    images: int = 256
    batches: int = 16  # M
    hidden: int = 12
    lr: float = 0.1
    steps: int = 600
    every: int = 60  # steps between measurements
    substeps: int = 2  # Euler-Maruyama steps in the time of one step of SAM
    rhos: tuple[float, ...] = (0.0, 0.2, 0.5, 0.8)
    test_images: int = 500
    seeds: int = 5
    folder: str = "figures/sam_sde"


@dataclass(frozen=True)
class Setting:
    """The network and its data, dealt into M batches."""

    model: nn.Module
    inputs: Tensor  # (M, n, pixels)
    targets: Tensor  # (M, n)
    test_inputs: Tensor  # (tests, pixels)
    test_targets: Tensor  # (tests,)

    def problem(self) -> ls.Problem:
        """The loss on all of them."""
        return ls.Problem(self.model, F.cross_entropy, (self.inputs.flatten(0, 1), self.targets.flatten()))

    def loss(self, w: Vector, x: Tensor, y: Tensor) -> Tensor:
        """On one batch, as a function that torch.func can differentiate."""
        return F.cross_entropy(self.outputs(w, x), y)

    def outputs(self, w: Vector, x: Tensor) -> Tensor:
        """Of the network at w."""
        layout = layout_of(self.model)
        named = dict(zip(layout.names, layout.unflatten(w), strict=True))
        outputs: Tensor = functional_call(self.model, named, (x,))
        return outputs


def setting(config: Config, seed: int) -> Setting:
    """Digits of 4 x 4 pixels and a tanh network (the third derivative of ReLU is not a function), in float64."""
    data, tests = digits(), config.test_images
    inputs, others = (
        F.avg_pool2d(images.double(), 2).flatten(1)
        for images in (data.train_inputs[: config.images], data.test_inputs[:tests])
    )
    with random_state_kept():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(16, config.hidden), nn.Tanh(), nn.Linear(config.hidden, 10)).double()
    shape = (config.batches, config.images // config.batches)
    targets = data.train_targets[: config.images].view(shape)
    return Setting(model, inputs.view(*shape, 16), targets, others, data.test_targets[:tests])


def directions(own: Setting, w: Tensor, rho: Tensor, order: int) -> Tensor:
    """SAM's gradient on each batch up to rho^order, order 1 or 2, at each of R points w with its rho: (R, M, P)."""

    def one(w: Vector, rho: Tensor, x: Tensor, y: Tensor) -> Vector:
        g = grad(own.loss)(w, x, y)
        u = g / g.norm()

        def slope(w: Vector) -> Tensor:
            return jvp(lambda v: own.loss(v, x, y), (w,), (u,))[1]  # f'(0)

        def taylor(w: Vector) -> Tensor:
            first, second = (slope(w), 0.0) if order == 1 else jvp(slope, (w,), (u,))[:2]
            return own.loss(w, x, y) + rho * first + rho**2 / 2 * second

        return grad(taylor)(w)

    batches = vmap(one, in_dims=(None, None, 0, 0))
    with dual_rules_loaded():
        return vmap(batches, in_dims=(0, 0, None, None))(w, rho, own.inputs, own.targets)


def noise(d: Tensor, z: Tensor) -> Tensor:
    """Σ^½ z in law, for standard normal z (R, M): M^(-½) Σ_j z_j (d_j − mean d) has the covariance Σ exactly."""
    centred = d - d.mean(1, keepdim=True)
    return torch.einsum("rm,rmp->rp", z, centred) / d.shape[1] ** 0.5


def euler_maruyama(
    own: Setting, w: Tensor, rho: Tensor, order: int, config: Config, generator: torch.Generator
) -> Iterator[Tensor]:
    """The R points (R, P) of the SDE after each time of one step of SAM."""
    dt = config.lr / config.substeps
    for _ in range(config.steps):
        for _ in range(config.substeps):
            d = directions(own, w, rho, order)
            z = torch.randn(d.shape[:2], generator=generator, dtype=d.dtype)
            w = w - dt * d.mean(1) - (config.lr * dt) ** 0.5 * noise(d, z)
        yield w


def discrete(own: Setting, rho: float, config: Config, generator: torch.Generator) -> Iterator[Vector]:
    """SAM's weights after each step."""
    base = torch.optim.SGD(own.model.parameters(), lr=config.lr)
    optimizer = ls.SharpnessAware(base, ls.rules.sam(rho=rho), model=own.model)
    for batch in torch.randint(config.batches, (config.steps,), generator=generator).tolist():
        optimizer.step(closure_of(own.model, optimizer, own.inputs[batch], own.targets[batch]))
        yield flatten(list(own.model.parameters()))


def measured(own: Setting, problem: ls.Problem, w: Vector, start: Vector | None) -> tuple[list[float], Vector]:
    """What QUANTITIES names, and the eigenvector to start from next time; losses and derivatives on all images."""
    loss, g = problem.loss_and_gradient(w)
    outputs = own.outputs(w, own.test_inputs).detach()
    right = (outputs.argmax(1) == own.test_targets).double().mean()
    pairs = ls.top_eigenpairs(ls.hessian(problem, w), 1, which="LA", tol=1e-3, start=start)
    row = (loss, F.cross_entropy(outputs, own.test_targets), right, w.norm(), g.norm(), pairs.values[0])
    return [float(value) for value in row], pairs.vectors[:, 0]


def followed(own: Setting, w: Vector, walk: Iterator[Vector], every: int) -> list[list[float]]:
    """Rows of `measured` at the start and after every so many steps of a walk."""
    rows, v, problem = [], None, own.problem()
    for step, here in enumerate(chain([w], walk)):
        if step % every == 0:
            row, v = measured(own, problem, here, v)
            rows.append(row)
    return rows


def simulate(config: Config) -> Arrays:
    """Per kind, rho and quantity the curves over time, (seeds, times)."""
    starts = [flatten(list(setting(config, seed).model.parameters())) for seed in range(config.seeds)]
    own = setting(config, 0)
    pairs = list(product(config.rhos, range(config.seeds)))
    runs = {}
    for index, (rho, seed) in enumerate(pairs):
        source = torch.Generator().manual_seed(index)
        fresh = setting(config, seed)
        runs["sam", rho, seed] = followed(own, starts[seed], discrete(fresh, rho, config, source), config.every)
    w = torch.stack([starts[seed] for _, seed in pairs])
    rhos = torch.tensor([rho for rho, _ in pairs], dtype=w.dtype)
    for kind, order in ORDERS.items():
        source = torch.Generator().manual_seed(1000)  # the same noise for both
        walk = list(euler_maruyama(own, w, rhos, order, config, source))
        for index, (rho, seed) in enumerate(pairs):
            runs[kind, rho, seed] = followed(own, w[index], (points[index] for points in walk), config.every)
    return {
        f"{kind}/{rho}/{name}": np.array([[row[i] for row in runs[kind, rho, seed]] for seed in range(config.seeds)])
        for kind, rho in product(KINDS, config.rhos)
        for i, name in enumerate(QUANTITIES)
    }


def departure(curves: Arrays, kind: str, rho: float, name: str, seeds: slice = slice(None)) -> float:
    """Mean over time of |SDE / SAM − 1|, each the mean over these seeds."""
    sde, sam = (curves[f"{which}/{rho}/{name}"][seeds].mean(0) for which in (kind, "sam"))
    return float(np.abs(sde / sam - 1)[1:].mean())


def main(config: Config) -> dict[str, Any]:
    """Curves, and their departures from SAM by quantity, kind and rho."""
    curves = kept(Path(config.folder) / "curves", config, lambda: simulate(config))
    table = {
        name: {kind: {str(rho): departure(curves, kind, rho, name) for rho in config.rhos} for kind in ORDERS}
        for name in QUANTITIES
    }
    found = {"departure": table, "sentence": sentence(table, config)}
    return publish(config, "curves", found, partial(draw, curves, config), claims=claims(curves, config))


def sentence(table: Mapping[str, Mapping[str, Mapping[str, float]]], config: Config) -> str:
    """The setting, and how far the mean curves depart from SAM's."""
    pairs = list(product(QUANTITIES, (str(rho) for rho in config.rhos if rho > 0)))
    nearer = sum(table[name]["third"][rho] < table[name]["second"][rho] for name, rho in pairs)
    losses = "; ".join(
        f"ρ = {rho:g}: {table['loss']['second'][str(rho)]:.1%} and {table['loss']['third'][str(rho)]:.1%}"
        for rho in config.rhos
    )
    return (
        f"Tanh network 16-{config.hidden}-10, {config.images} digits of 4 x 4 pixels in {config.batches} batches, lr "
        f"{config.lr:g}; means over {config.seeds} seeds, bands hold them all. The third-order mean is nearer to SAM's "
        f"in {nearer} of {len(pairs)} comparisons (quantity and ρ > 0). The second- and third-order training loss "
        f"departs from SAM's, averaged over time, by {losses}; at ρ = 0 both are SGD's, and seeds alone make this. "
        "Departure below: |SDE/SAM − 1| of each seed, mean over time and ρ > 0, the noise of both SDEs the same."
    )


def claims(curves: Arrays, config: Config) -> list[Claim]:
    """Luo et al. show six quantities; each is judged seed by seed, over the ρ > 0 together."""

    def own(kind: str, name: str) -> list[float]:
        seeds = [slice(seed, seed + 1) for seed in range(config.seeds)]
        return [
            100 * float(np.mean([departure(curves, kind, rho, name, seed) for rho in config.rhos if rho > 0]))
            for seed in seeds
        ]

    paper, found = "Luo et al. 2024, SAM against both SDEs", []
    for name, label in QUANTITIES.items():
        more = difference(own("second", name), own("third", name))
        claim, text = f"{label}: the third-order SDE is nearer to SAM", points(more)
        found.append(Claim(paper, claim, f"by {text} of mean departure", verdict(more)))
    return found


def draw(curves: Arrays, config: Config) -> Figure:
    """One column a rho, one row a quantity."""
    figure = Figure(figsize=(1.75 * len(config.rhos), 8.6), layout="constrained")
    axes = figure.subplots(len(QUANTITIES), len(config.rhos), sharex=True, sharey="row", squeeze=False)
    for (row, (name, label)), (column, rho) in product(enumerate(QUANTITIES.items()), enumerate(config.rhos)):
        ax = axes[row, column]
        for kind, (title, line) in KINDS.items():
            values = curves[f"{kind}/{rho}/{name}"]
            times = config.lr * config.every * np.arange(values.shape[1])
            plot_seeds(times, values, ax, label=title, **line)
        last = row == len(QUANTITIES) - 1
        ax.set(ylabel=label if column == 0 else "", xlabel="time = step · lr" if last else "")
        if row == 0:
            ax.set_title(f"ρ = {rho:g}" + (" (SGD)" if rho == 0 else ""))
    figure.align_ylabels()
    legend_over(figure, axes[0, 0], 3, fontsize=None)
    return figure


if __name__ == "__main__":
    command(main, Config)
