"""Four pictures of landscapes in other people's papers, and what they claim, by numbers over seeds.

Line: from a network of small batches to one of large batches, trained to the same training loss (Keskar et al. 2017,
arXiv:1609.04836, figure 3). Plane: SGD at a constant learning rate, and the average of its weights (SWA), test loss
(Izmailov et al. 2018, arXiv:1803.05407, figure 1). Ray: SGD and SAM along random filter-normalised directions (Foret et
al. 2021, arXiv:2010.01412, figure 1, middle and right). Layers: the loss along the leading eigenvector of each layer's
block of the Hessian (Yao et al. 2021, arXiv:2006.00719, figure 2). Perceptrons on digits with 20 % wrong labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim, points, said
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import data_of, measured, none_failed, training
from analysis_scripts._shared.over_seeds import difference, interval, lies_in, verdict
from analysis_scripts._shared.planes import around, mark
from landscape.plots import plot_slice_2d
from landscape.plots.style import BLUE, OTHERS, RED, SMALL, legend_above, line_style

LAYERS = {"first": "1.", "second": "3.", "third": "5."}  # of nn.Sequential: where the names of their weights begin
APART = 2.0  # times, above which blocks differ: our mark
Numbers = Mapping[str, Sequence[Mapping[str, Any]]]  # kind of network, seed


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the figure follows from it."""

    small: int = 16  # images of a batch
    large: int = 600
    lr: float = 0.02  # of the small batches and of SWA
    lr_large: float = 0.2
    loss: float = 0.3  # at which both stop
    most_epochs: int = 1000
    epochs: int = 60  # of SGD, SAM and SWA
    swa_from: int = 31
    rho: float = 0.2
    distance: float = 0.5  # along the rays, in filter norms
    rays: int = 10
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    points: int = 31
    setting: Mapping[str, Any] = field(default_factory=lambda: {"model": "mlp", "label_noise": 0.2})
    workers: int = 2
    folder: str = "figures/published_landscapes"
    runs: str = "runs/published_landscapes"


def main(config: Config) -> dict[str, Any]:
    """Train, measure, draw the first seed's."""
    runs = {(kind, seed): run_of(config, kind, seed) for kind, seed in product(kinds(config), config.seeds)}
    kept = none_failed(measured(runs, partial(numbers, distance=config.distance, rays=config.rays), config.workers))
    found = {kind: [kept[kind, seed] for seed in config.seeds] for kind in kinds(config)}
    folders = {kind: Path(runs[kind, config.seeds[0]].folder) for kind in kinds(config)}
    content = {"sentence": sentence(config), "numbers": found}
    figure = partial(draw, config, folders)
    return publish(config, "landscapes", content, figure, claims=claims(config, found))


def kinds(config: Config) -> dict[str, dict[str, Any]]:
    """Kind of network to what its run changes."""
    stop = {"epochs": config.most_epochs, "stop_at_loss": config.loss, "cosine": False}
    constant = {"epochs": config.epochs, "lr": config.lr, "cosine": False}
    return {
        "small batches": {**stop, "batch_size": config.small, "lr": config.lr},
        "large batches": {**stop, "batch_size": config.large, "lr": config.lr_large},
        "SGD": {"epochs": config.epochs},
        "SAM": {"epochs": config.epochs, "rule_settings": {"rho": config.rho}},
        "constant lr": {**constant, "checkpoint_epochs": [config.swa_from]},
        "SWA": {**constant, "swa_from": config.swa_from},
    }


def run_of(config: Config, kind: str, seed: int) -> ls.TrainConfig:
    """One run."""
    rule = "sam" if kind == "SAM" else "sgd"
    return training(config, f"{kind.replace(' ', '-')}-{seed}", rule, seed, **kinds(config)[kind])


def numbers(folder: Path, *, distance: float, rays: int) -> dict[str, Any]:
    """Errors and losses, λmax of the whole and of each layer, and the mean rise along random rays."""
    _, metadata = ls.load_checkpoint(folder)
    problem = problem_of(folder)
    w, loss = problem.vector(), problem.loss()
    ways = ls.random_directions(problem, rays)
    rises = [float(problem.loss(w + distance * sign * way) - loss) for way in ways for sign in (1, -1)]
    blocks = {name: float(leading(folder, name).values[0]) for name in LAYERS}
    whole = float(ls.top_eigenpairs(ls.hessian(problem), 1, which="LA").values[0])
    losses = {key: metadata[key] for key in ("train_loss", "test_loss", "test_accuracy")}
    return {**losses, "rise": sum(rises) / len(rises), "lambda_max": whole, "blocks": blocks}


def problem_of(folder: Path, layer: str = "", split: str = "train") -> ls.Problem:
    """The loss over all training or test images; of one layer's weights, if one is named."""
    model, metadata = ls.load_checkpoint(folder)
    data = data_of(metadata["config"])
    pair = (getattr(data, f"{split}_inputs"), getattr(data, f"{split}_targets"))
    chosen = (lambda name, _: name.startswith(LAYERS[layer])) if layer else None
    return ls.Problem(model, F.cross_entropy, pair, parameters=chosen)


def leading(folder: Path, layer: str) -> ls.EigenPairs:
    """The largest eigenvalue of a layer's block, and its vector."""
    return ls.top_eigenpairs(ls.hessian(problem_of(folder, layer)), 1, which="LA")


def sentence(config: Config) -> str:
    """Conditions."""
    return (
        f"Seed {config.seeds[0]} is drawn; numbers over {len(config.seeds)} seeds. Batches of {config.small} and "
        f"{config.large}, both to a training loss of {config.loss:g}; SWA over epochs {config.swa_from} to "
        f"{config.epochs} at lr {config.lr:g}; SAM with ρ = {config.rho:g}; {config.rays} rays."
    )


def claims(config: Config, found: Numbers) -> list[Claim]:
    """Seed by seed."""

    def each(kind: str, key: str) -> list[float]:
        return [own[key] for own in found[kind]]

    def less(one: str, other: str, key: str) -> tuple[float, float, float]:
        return difference(each(one, key), each(other, key))

    def errors(one: str, other: str) -> tuple[float, ...]:
        return tuple(-100 * end for end in (less(one, other, "test_accuracy")[i] for i in (0, 2, 1)))

    keskar, izmailov = "Keskar et al. 2017, figure 3 and section 2", "Izmailov et al. 2018, figure 1"
    sharper = less("large batches", "small batches", "lambda_max")
    worse = errors("large batches", "small batches")
    average, wider = less("SWA", "constant lr", "test_loss"), less("SWA", "constant lr", "rise")
    flatter = less("SAM", "SGD", "rise")
    ratios = [max(own["blocks"].values()) / min(own["blocks"].values()) for own in found["SGD"]]
    spread = interval(ratios)
    at = f"at {config.distance:g} filter norms"
    mean = {kind: interval(each(kind, "rise"))[0] for kind in ("SGD", "SAM")}
    layers = "the layers' landscapes differ (largest λmax over smallest above 2: our mark)"
    return [
        Claim(keskar, "λmax of large batches above that of small ones", points(sharper, ""), verdict(sharper)),
        Claim(keskar, "large batches err more", points(worse), verdict(worse)),
        Claim(izmailov, "SWA's test loss below SGD's", points(average, "", 3), verdict(average, -1)),
        Claim(izmailov, "SWA's minimum is wider", f"rise {at} {points(wider, '', 3)}", verdict(wider, -1)),
        Claim(
            "Foret et al. 2021, figure 1 (middle, right)",
            "SAM's minimum is wider than SGD's",
            f"the loss rises {at} by {mean['SGD']:.3g} (SGD), {mean['SAM']:.3g}, difference {points(flatter, '', 2)}",
            verdict(flatter, -1),
        ),
        Claim("Yao et al. 2021, figure 2", layers, f"{said(spread, 1)} times", lies_in(spread, APART, float("inf"))),
    ]


def draw(config: Config, folders: Mapping[str, Path]) -> Figure:
    """Line, plane, rays and layers of the first seed."""
    figure = Figure(figsize=(7.6, 6.6), layout="constrained")
    (line, plane), (ray, layers) = figure.subplots(2, 2)
    draw_line(config, line, folders)
    draw_plane(config, plane, folders)
    draw_rays(config, ray, folders)
    draw_layers(config, layers, folders["SGD"])
    for ax in (line, ray, layers):
        ax.set_ylabel("training loss" if ax is not line else "loss")
        legend_above(ax, columns=2)
    return figure


def draw_line(config: Config, ax: Axes, folders: Mapping[str, Path]) -> None:
    """The loss from small batches to large ones, and beyond both."""
    small = problem_of(folders["small batches"])
    data = {split: problem_of(folders["small batches"], split=split).data for split in ("train", "test")}
    other = ls.load_checkpoint(folders["large batches"])[0].state_dict()
    found = ls.interpolate(small, other, (-1.0, 2.0, 3 * config.points), data)
    for split, loss in found.loss.items():
        ax.plot(found.x, loss, line_style(split), color=BLUE if split == "train" else RED, label=split)
    for place in (0, 1):
        ax.axvline(place, color="0.6", linewidth=0.8, linestyle=":")
    ax.set(yscale="log", xlabel="0: small batches, 1: large batches")


def draw_plane(config: Config, ax: Axes, folders: Mapping[str, Path]) -> None:
    """The test loss through SWA, the end of SGD and where the average began."""
    end = folders["constant lr"]
    problem = problem_of(folders["SWA"], split="test")
    others = [ls.load_checkpoint(own)[0] for own in (end, end / f"epoch-{config.swa_from}")]
    (d1, d2), places = ls.plane_through(problem, *others)
    x, y = around(places, config.points, margin=0.5)
    plot_slice_2d(ls.slice_2d(problem, d1, d2, x, y, {"test": problem.data}), "test", ax)
    mark(ax, places.tolist(), ("SWA", "SGD, end", f"SGD, epoch {config.swa_from}"), SMALL)


def draw_rays(config: Config, ax: Axes, folders: Mapping[str, Path]) -> None:
    """The mean loss over random rays with the range of all."""
    for kind, color, style in (("SGD", "black", "-"), ("SAM", BLUE, "--")):
        problem = problem_of(folders[kind])
        w, ways = problem.vector(), ls.random_directions(problem, config.rays)
        x = torch.linspace(-1, 1, config.points)
        losses = torch.tensor([[float(problem.loss(w + float(t) * way)) for t in x] for way in ways])
        ax.plot(x, losses.mean(0), style, color=color, label=f"{kind}, mean")
        ax.fill_between(
            x, losses.amin(0), losses.amax(0), color=color, alpha=0.15, linewidth=0, label=f"{kind}, all rays"
        )
    ax.set_xlabel("distance along the ray, filter norms")


def draw_layers(config: Config, ax: Axes, folder: Path) -> None:
    """The loss along each layer's leading eigenvector, of unit length."""
    for name, (color, marker) in zip(LAYERS, OTHERS, strict=False):
        problem, pairs = problem_of(folder, name), leading(folder, name)
        w, x = problem.vector(), torch.linspace(-1.5, 1.5, config.points)
        losses = [float(problem.loss(w + float(t) * pairs.vectors[:, 0])) for t in x]
        label = f"{name} layer, λ = {pairs.values[0]:.2g}"
        ax.plot(x, losses, marker=marker, markevery=5, ms=4, color=color, lw=1.0, label=label)
    ax.set(xlabel="distance along the layer's eigenvector", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}")


if __name__ == "__main__":
    command(main, Config)
