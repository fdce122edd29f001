"""A grid of losses by landscape, by the way of Li et al.'s code, and by the bare forward passes, in one run.

    python analysis_scripts/benchmarks/slices.py [--quick] [--out FOLDER]

Train and test of the digits network on one grid. Contenders take turns over a share of the points, one thread each;
then the whole grid by one worker and by two, of one thread each. Writes slices.json and the figure slices.png
and .pdf; the table comes last.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch
from matplotlib.figure import Figure
from measure import interleaved, timed
from setting import Config as Network
from setting import trained
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.data import digits
from landscape.plots import save_figure
from landscape.plots.style import BLUE, GREY, RED, SMALL
from landscape.storage.results import versions, write_json

NAMES = {
    "ours": "landscape",
    "passes": "forward passes alone",
    "rebuilt": "weights rebuilt, data reread",
    "rebuilt, 2 loaders": "the same, two loading processes",
}
COLOURS = dict(zip(NAMES, (BLUE, GREY, RED, RED), strict=True))


@dataclass(frozen=True)
class Config:
    """A run of the benchmark.

    Attributes:
        out: folder of the JSON file and the figure.
        network: what is looked at.
        points: along each axis of the grid.
        sample: points a contender evaluates in its turn.
        repeats: turns, of which the median counts.
        batch_size: of the data as it is reread, Li et al.'s default.
    """

    out: Path = Path("figures/benchmarks")
    network: Network = field(default_factory=lambda: Network(threads=1))
    points: int = 51
    sample: int = 51
    repeats: int = 5
    batch_size: int = 128


QUICK: dict[str, Any] = {"network": Network(threads=1, width=2, epochs=1), "points": 5, "sample": 3, "repeats": 1}


class Grid:
    """The network, two directions, and both splits."""

    def __init__(self, config: Config) -> None:
        self.config, self.model = config, trained(config.network).model
        data = digits()
        self.sets = {
            "train": TensorDataset(data.train_inputs, data.train_targets),
            "test": TensorDataset(data.test_inputs, data.test_targets),
        }
        self.batches = {name: list(DataLoader(own, config.batch_size)) for name, own in self.sets.items()}
        self.problem = ls.Problem(self.model, nn.functional.cross_entropy, self.batches["train"])
        self.d1, self.d2 = ls.random_directions(self.problem)

    def ours(self) -> dict[str, Tensor]:
        """A line of the grid."""
        line = ls.slice_1d(self.problem, self.d1, (-1.0, 1.0, self.config.sample), self.batches)
        return dict(line.loss)

    def passes(self) -> None:
        """What no way can spare: each batch through the network and its loss, as often as there are points."""
        with torch.no_grad():
            for _ in range(self.config.sample):
                for batches in self.batches.values():
                    for x, t in batches:
                        nn.functional.cross_entropy(self.model(x), t)

    def rebuilt(self, loaders: int = 0) -> dict[str, Tensor]:
        """The line as Li et al.'s code has it: tensor by tensor into the network, and the loader from its start."""
        own = [p.detach().clone() for p in self.model.parameters()]
        steps = self.problem.layout.unflatten(self.d1)
        found: dict[str, Tensor] = {}
        for name, data in self.sets.items():
            loader = DataLoader(data, self.config.batch_size, num_workers=loaders)
            losses = []
            for x in torch.linspace(-1, 1, self.config.sample, dtype=torch.float64).tolist():
                self._load([w + x * d for w, d in zip(own, steps, strict=True)])
                losses.append(self._loss(loader))
            found[name] = torch.tensor(losses, dtype=torch.float64)
        self._load(own)
        return found

    def whole(self, workers: int) -> float:
        """Seconds of the whole grid by so many workers of one thread."""
        span = (-1.0, 1.0, self.config.points)
        torch.set_num_threads(workers)  # which the workers share
        spent, _ = timed(lambda: ls.slice_2d(self.problem, self.d1, self.d2, span, span, self.batches, workers=workers))
        torch.set_num_threads(1)
        return spent

    def _load(self, tensors: list[Tensor]) -> None:
        with torch.no_grad():
            for p, tensor in zip(self.model.parameters(), tensors, strict=True):
                p.copy_(tensor)

    def _loss(self, loader: DataLoader[Any]) -> float:
        total = correct = count = 0.0
        with torch.no_grad():
            for x, t in loader:
                outputs = self.model(x)
                total += float(nn.functional.cross_entropy(outputs, t)) * len(t)
                correct += float((outputs.argmax(1) == t).sum())
                count += len(t)
        return total / count


def main(config: Config) -> dict[str, Any]:
    """Measure, write JSON and figure, print the table; returns what the JSON holds."""
    torch.set_num_threads(1)
    grid = Grid(config)
    calls = {
        "ours": grid.ours,
        "passes": grid.passes,
        "rebuilt": grid.rebuilt,
        "rebuilt, 2 loaders": lambda: grid.rebuilt(2),
    }
    expected, ours = grid.rebuilt(), grid.ours()
    turns = interleaved(calls, config.repeats)
    whole = {str(workers): grid.whole(workers) for workers in (1, 2)}
    found: dict[str, Any] = {
        "milliseconds_a_point": {name: 1e3 * spent / config.sample for name, spent in turns.items()},
        "over_passes": turns["ours"] / turns["passes"],
        "times_faster": {name: turns[name] / turns["ours"] for name in ("rebuilt", "rebuilt, 2 loaders")},
        "seconds_of_the_grid": whole,
        "two_workers": whole["1"] / whole["2"],
        "difference": max(float((ours[name] / expected[name] - 1).abs().max()) for name in ours),
        "points": config.points,
        "parameters": grid.problem.size,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "versions": versions(),
    }
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / "slices.json", found)
    draw(found, config.out / "slices")
    click.echo(table(found))
    return found


def draw(found: dict[str, Any], stem: Path) -> list[Path]:
    """Bars of the milliseconds a point."""
    figure = Figure(figsize=(5.5, 2.0), layout="constrained")
    ax = figure.subplots()
    for place, (name, spent) in enumerate(found["milliseconds_a_point"].items()):
        ax.barh(place, spent, color=COLOURS[name])
        ax.text(spent, place, f" {spent:.3g}", va="center", fontsize=SMALL)
    ax.set_yticks(range(len(NAMES)), list(NAMES.values()))
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel("milliseconds a point, train and test, one thread")
    ax.tick_params(labelsize=SMALL)
    return save_figure(figure, stem)


def table(found: dict[str, Any]) -> str:
    """The results as text."""
    lines = [f"{NAMES[name]:35} {spent:8.1f} ms a point" for name, spent in found["milliseconds_a_point"].items()]
    lines += [
        f"ours over the forward passes: {found['over_passes']:.2f}; "
        + "; ".join(f"{NAMES[name]}: {ratio:.2f} times ours" for name, ratio in found["times_faster"].items()),
        f"largest relative difference of the losses: {found['difference']:.1e}",
        f"grid of {found['points']} x {found['points']}: {found['seconds_of_the_grid']['1']:.1f} s by one worker, "
        f"{found['seconds_of_the_grid']['2']:.1f} s by two, {found['two_workers']:.2f} times faster",
    ]
    return "\n".join(lines)


@click.command()
@click.option("--quick", is_flag=True, help="A small network and grid, to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), default=Config.out, show_default=True)
def command(quick: bool, out: Path) -> None:
    """Compare ways to a grid of losses."""
    config = Config(out=out)
    main(replace(config, **QUICK) if quick else config)


if __name__ == "__main__":
    command()
