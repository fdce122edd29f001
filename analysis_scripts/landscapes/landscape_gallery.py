"""What landscapes can show of small residual networks on digits: one figure a question, and a moving picture.

surfaces: SGD against SAM on one scale.  eigenvectors: the plane of the sharpest directions.  three_models: the plane
through three networks.  trajectory, training.gif: a training run over its principal components.  connectivity: two
networks joined by a straight line and by a Bezier curve with a trained bend, batch norm recomputed.

Networks are trained into runs/ and kept; the data of every figure lies beside it as npz and json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.frame import command, publish, save_captioned
from analysis_scripts._shared.many_networks import training
from analysis_scripts._shared.planes import Axis, around, mark
from landscape.data import Images, digits
from landscape.models import build
from landscape.plots import (
    animate_trajectory,
    plot_map,
    plot_persistence,
    plot_slice_2d,
    plot_slices_2d,
    plot_trajectory,
)
from landscape.plots.style import BLUE, RED, STYLE, legend_above, line_style
from landscape.slices import Directions
from landscape.storage.results import BezierPath, Slice1D, Slice2D

NORMS = {"none": "no batch norm", "batch": "batch norm, statistics recomputed at each point"}
RULES: dict[str, dict[str, float]] = {"sgd": {}, "sam": {"rho": 0.2}, "asam": {"rho": 1.0}}


@dataclass(frozen=True)
class Config:
    """What is trained and drawn; every figure follows from it."""

    width: int = 8
    label_noise: float = 0.2  # but for the trajectory and the connected pair, whose labels are clean
    epochs: int = 40
    lr: float = 0.1
    points: int = 31  # along each axis of a plane
    map_points: int = 9  # along each axis of the convexity map
    pair_epochs: int = 20
    bend_epochs: int = 40
    run_epochs: int = 15
    every: int = 2  # steps between snapshots of that run
    folder: str = "figures/landscape_gallery"
    runs: str = "runs/landscape_gallery"


def main(config: Config) -> None:
    """Train, compute and draw everything."""
    with matplotlib.rc_context(STYLE):
        publish(config, "gallery", {**rules(config), **run(config), **pair(config)})


def rules(config: Config) -> dict[str, Any]:
    """Networks of three rules from one start: each by itself, by its sharpest directions, and all in one plane."""
    problems = {rule: trained(config, rule, config.label_noise, config.epochs) for rule in RULES}
    wide, near = ((-end, end, config.points) for end in (1.0, 0.5))
    two = {rule: problems[rule] for rule in ("sgd", "sam")}
    surfaces = {
        rule: plane(config, f"surface_{rule}", own, ls.random_directions(own), wide, wide) for rule, own in two.items()
    }
    noisy = partial(save, config, label_noise=config.label_noise)
    names = [rule.upper() for rule in surfaces]
    noisy("surfaces", compared(surfaces, names), "Filter-normalised random directions, the same for both networks.")
    convexity(config, two)

    sharp = {rule: ls.hessian_directions(own, scale=None) for rule, own in two.items()}
    eigen = {rule: plane(config, f"eigenvectors_{rule}", two[rule], own, near, near) for rule, own in sharp.items()}
    values = {rule: own.details["eigenvalues"] for rule, own in sharp.items()}
    names = [f"λ1 = {own[0]:.3g}, λ2 = {own[1]:.3g}\n{rule.upper()}" for rule, own in values.items()]
    noisy("eigenvectors", compared(eigen, names), "Along each network's two sharpest directions, of length 1.")

    directions, places = ls.plane_through(problems["sgd"], problems["sam"].model, problems["asam"].model)
    surface = plane(config, "three_models", problems["sgd"], directions, *around(places, config.points))
    ax = plot_slice_2d(surface, levels=levels(surface.loss["train"]))
    mark(ax, places.tolist(), ["SGD", "SAM", "ASAM"])
    noisy(
        "three_models",
        ax.figure,
        "The plane through networks of three rules that began at one point; the star is SGD's.",
    )
    found = ls.persistence(surface)
    noisy("basins", plot_persistence(found).figure, "Basins of the plane through SGD's, SAM's and ASAM's network.")
    basins = {"loss_at_minimum": found.birth.tolist(), "loss_at_saddle": found.death.tolist()}
    return {"eigenvalues": values, "basins": basins}


def convexity(config: Config, problems: Mapping[str, ls.Problem]) -> None:
    """|λmin / λmax| on the planes of the surfaces, side by side on one scale."""
    wide = (-1.0, 1.0, config.map_points)
    maps = {}
    for rule, problem in problems.items():
        d1, d2 = ls.random_directions(problem)
        kept = Path(config.runs) / f"convexity_{rule}.jsonl"
        maps[rule] = ls.convexity_map(problem, d1, d2, wide, wide, tol=0.01, resume=kept)
        maps[rule].save(Path(config.folder) / f"convexity_{rule}")
    values, errors = (torch.stack([getattr(own, what) for own in maps.values()]) for what in ("values", "errors"))
    low, high = float(errors[errors.isfinite()].max()), float(values[values.isfinite()].max())
    figure = Figure(figsize=(4.2 * len(maps), 3.9), layout="constrained")
    axes = figure.subplots(1, len(maps))
    for ax, (rule, own) in zip(axes, maps.items(), strict=True):
        plot_map(own, ax, vmin=low, vmax=high)
        ax.set_title(rule.upper(), pad=18)
        ax.locator_params(nbins=5)
    for ax in axes[:-1]:
        ax.collections[0].colorbar.remove()  # one for the scale that all share
    sentence = (
        "The smallest eigenvalue of the Hessian over the largest, in size: near 0 the loss is nearly convex, or the "
        "smallest eigenvalue is a positive one; along the directions of the surfaces."
    )
    save(config, "convexity", figure, sentence, config.label_noise)


def run(config: Config) -> dict[str, Any]:
    """One run of plain SGD over its principal components."""
    problem, snapshots = recorded(config)
    directions, explained = ls.pca_directions(problem, snapshots)
    trajectory = ls.project_trajectory(problem, snapshots, *directions)
    trajectory.save(Path(config.folder) / "trajectory")
    axes = around(trajectory.coordinates, config.points)
    surface = plane(config, "trajectory_plane", problem, Directions(list(directions)), *axes)
    sentence = (
        "Plain SGD over its two principal components. The run has not converged: the plane holds places with a lower "
        "loss than the star, where it was stopped."
    )
    save(config, "trajectory", plot_trajectory(surface, trajectory).figure, sentence)
    animate_trajectory(surface, trajectory, Path(config.folder) / "training.gif", frames=50)
    return {"explained": explained.tolist(), "off_plane": float(trajectory.off_plane.max())}


def pair(config: Config) -> dict[str, Any]:
    """Two networks with batch norm from different seeds, joined by a line and by a curve."""
    first, second = (trained(config, "sgd", 0.0, config.pair_epochs, seed=seed, norm="batch") for seed in (0, 1))
    bent = Path(config.runs) / "bend.npz"
    if not bent.exists():
        ls.train_path(first, second.model, epochs=config.bend_epochs, lr=config.lr).save(bent)
    curve = BezierPath.load(bent)
    paths = {"straight": ls.straight_path(first, second.model), "bezier": curve}
    images = digits()
    data = {"train": first.data, "test": [(images.test_inputs, images.test_targets)]}
    lines = {name: ls.path_losses(first, path, config.points, data) for name, path in paths.items()}
    for name, line in lines.items():
        line.save(Path(config.folder) / f"connectivity_{name}")
    recomputed = first.with_batch_norm("recompute")
    directions, places = ls.plane_through(recomputed, second.model, curve.bend)
    surface = plane(config, "connectivity_plane", recomputed, directions, *around(places, config.points))
    sentence = (
        "Two networks from different seeds, joined by a line and by a Bezier curve whose bend was trained; right, the "
        "plane of the curve. A barrier is the height above the line between the two ends' losses."
    )
    save(config, "connectivity", connected(lines, surface, places.tolist(), curve), sentence, norm="batch")
    return {"barriers": {name: asdict(ls.barrier(line)) for name, line in lines.items()}}


def save(config: Config, name: str, figure: Any, sentence: str, label_noise: float = 0.0, norm: str = "none") -> None:
    """With a caption: what is seen, and of which networks and data."""
    wrong = f" with {100 * label_noise:g} % wrong labels" if label_noise else ""
    of = f"ResNet-8 of width {config.width}, {NORMS[norm]}; digits, 1,200 training images{wrong}; seed 0."
    save_captioned(figure, Path(config.folder) / name, f"{sentence} {of}")


def trained(
    config: Config, rule: str, label_noise: float, epochs: int, *, seed: int = 0, norm: str = "none"
) -> ls.Problem:
    """The training loss of a network of `ls.train`; a finished run is only read."""
    own = {"model_settings": {"width": config.width, "norm": norm}, "label_noise": label_noise, "epochs": epochs}
    folder = ls.train(training(config, f"{rule}-{norm}-{seed}", rule, seed, rule_settings=RULES[rule], **own))
    return ls.Problem(ls.load_checkpoint(folder)[0], F.cross_entropy, train_batches(digits(label_noise, seed)))


def recorded(config: Config) -> tuple[ls.Problem, ls.Recorder]:
    """A loop of one's own with a Recorder in it."""
    data = digits()
    model = build("resnet", {"width": config.width}, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9, weight_decay=5e-4)
    recorder = ls.Recorder(model, Path(config.runs) / "snapshots", every=config.every, start=0)
    order = torch.Generator().manual_seed(0)
    for _ in range(config.run_epochs):
        for index in torch.randperm(len(data.train_targets), generator=order).split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(data.train_inputs[index]), data.train_targets[index]).backward()
            optimizer.step()
            recorder.step()
    recorder.record()
    return ls.Problem(model.eval(), F.cross_entropy, train_batches(data)), recorder


def train_batches(data: Images) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """In batches as small as training a path wants them."""
    return list(zip(data.train_inputs.split(200), data.train_targets.split(200), strict=True))


def plane(config: Config, name: str, problem: ls.Problem, directions: Directions, x: Axis, y: Axis) -> Slice2D:
    """The training loss on a plane, saved; an interrupted one goes on."""
    d1, d2 = directions
    found = ls.slice_2d(problem, d1, d2, x, y, resume=Path(config.runs) / f"{name}.jsonl")
    found.save(Path(config.folder) / name, directions=directions.details)
    return found


def compared(planes: Mapping[str, Slice2D], names: Sequence[str]) -> Figure:
    """Planes side by side on one scale of colours."""
    losses = torch.stack([own.loss["train"] for own in planes.values()])
    return plot_slices_2d(list(planes.values()), names, levels=levels(losses))


def levels(losses: torch.Tensor) -> list[float]:
    """Round numbers among the finite losses, closer than the plots' own, and the two ends."""
    low, high = (float(end) for end in losses[losses.isfinite()].aminmax())
    within = (1, 1.5, 2, 3, 5, 7) if high > 15 * low else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    steps = [step * 10.0**power for power in range(-6, 6) for step in within]
    room = (high / low) ** 0.05
    return [low, *(step for step in steps if room * low < step < high / room), high]


def connected(lines: Mapping[str, Slice1D], surface: Slice2D, places: list[list[float]], curve: BezierPath) -> Figure:
    """The loss along both ways, and the ways in the plane of the curve."""
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, line), colour in zip(lines.items(), (RED, BLUE), strict=True):
        for split, loss in line.loss.items():
            height = ls.barrier(line, split).height
            label = f"{name}, {split}: barrier {height:.3g}"
            left.plot(line.x, loss, color=colour, linestyle=line_style(split), label=label)
    left.set(xlabel="t, from one network to the other", ylabel="loss", yscale="log", xlim=(0, 1))
    legend_above(left, columns=2)
    plot_slice_2d(surface, "train", right)
    ts = torch.linspace(0, 1, 101, dtype=torch.float64).tolist()
    way = torch.tensor([curve.weights(t) for t in ts]) @ torch.tensor([places[0], places[2], places[1]])
    for points, colour in ((way, BLUE), (torch.tensor(places[:2]), RED)):
        right.plot(*points.T, color="white", linewidth=4)
        right.plot(*points.T, color=colour, linewidth=2)
    mark(right, places, ["seed 0", "seed 1", "bend"])
    return figure


if __name__ == "__main__":
    command(main, Config)
