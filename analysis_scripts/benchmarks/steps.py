"""What a step of each rule costs: ResNet-20 on 32 × 32 images, batches of 128, all rules taking turns in one run.

    python analysis_scripts/benchmarks/steps.py [--quick] [--out FOLDER] [--device cuda]

Beside the rules: SGD, and SAM as one would write it for this network alone, a loop over tensors with nothing that a
general step needs. Eigen-SAM is charged the hundredth part of finding its eigenvector anew. Memory is the peak of a
perceptron that is nearly all parameters, in processes of their own, less SGD's, in copies of the parameters. Writes
steps.json, steps.png and steps.pdf; the table comes last.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from matplotlib.figure import Figure
from measure import interleaved, own_peak, printed_by
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import landscape as ls
from landscape.models import build
from landscape.plots import save_figure
from landscape.plots.style import BLUE, GREY, SMALL
from landscape.storage.results import versions, write_json

PERIOD, PRODUCTS = 100, 5  # of Eigen-SAM: steps between two eigenvectors, products for one


@dataclass(frozen=True)
class Config:
    """A run of the benchmark.

    Attributes:
        out: folder of the JSON file and the figure.
        depth: of the ResNet, 6n + 2.
        batch_size: images a step, 3 × 32 × 32.
        repeats: turns, of which the median counts.
        threads: of torch.
        device: "cpu" or "cuda".
        wide: width of the perceptron that memory is measured on; it has two layers of wide² parameters.
    """

    out: Path = Path("figures/benchmarks")
    depth: int = 20
    batch_size: int = 128
    repeats: int = 9
    threads: int = 2
    device: str = "cpu"
    wide: int = 4000


QUICK: dict[str, Any] = {"depth": 8, "batch_size": 4, "repeats": 1, "threads": 1, "wide": 200}
RULES: dict[str, Callable[[], ls.rules.Rule | None]] = {
    "sgd": lambda: None,
    "sam": ls.rules.sam,
    "asam": ls.rules.asam,
    "fisher_sam": ls.rules.fisher_sam,
    "gsam": ls.rules.gsam,
}


class Network:
    """A network, one batch, and steps on it."""

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        self.model, self.inputs, self.targets = model, inputs, targets
        self.base = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)

    def step(self, rule: ls.rules.Rule | None) -> Callable[[], Any]:
        """A step of the rule, of plain SGD for None."""
        optimizer = self.base if rule is None else ls.SharpnessAware(self.base, rule, model=self.model)
        return lambda: optimizer.step(self.closure)

    def closure(self) -> Tensor:
        self.base.zero_grad()
        loss = cross_entropy(self.model(self.inputs), self.targets)
        loss.backward()
        return loss

    @torch.no_grad()
    def by_hand(self, rho: float = 0.05) -> None:
        """SAM's step for this network alone, tensor by tensor; batch norm averages twice."""
        parameters = list(self.model.parameters())
        with torch.enable_grad():
            self.closure()
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.stack([g.norm() for g in gradients]).norm()
        own = [p.clone() for p in parameters]
        for p, g in zip(parameters, gradients, strict=True):
            p.add_(g, alpha=float(rho / norm))
        with torch.enable_grad():
            self.closure()
        for p, w in zip(parameters, own, strict=True):
            p.copy_(w)
        self.base.step()

    def top(self) -> Tensor:
        """The Hessian's top eigenvector on the batch, at the budget of the Eigen-SAM paper."""
        problem = ls.Problem(self.model, cross_entropy, (self.inputs, self.targets))
        return ls.top_eigenpairs(ls.hessian(problem), 1, which="LA", max_matvecs=PRODUCTS).vectors[:, 0]


def main(config: Config, *, memory: bool = True) -> dict[str, Any]:
    """Measure, write JSON and figure, print the table; returns what the JSON holds."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    model = build("resnet", {"depth": config.depth, "width": 16, "in_channels": 3, "norm": "batch"}, 0).to(
        config.device
    )
    x = torch.randn(config.batch_size, 3, 32, 32, device=config.device)
    network = Network(model.train(), x, torch.randint(10, (len(x),), device=config.device))
    calls = {name: network.step(rule()) for name, rule in RULES.items()}
    v = network.top()
    calls |= {"eigen_sam": network.step(ls.rules.eigen_sam(top=lambda: v)), "by_hand": network.by_hand}
    turns = interleaved(calls | {"top": network.top}, config.repeats)
    turns["eigen_sam"] += turns.pop("top") / PERIOD
    found = {
        "milliseconds": {name: 1e3 * spent for name, spent in turns.items()},
        "over_sgd": {name: spent / turns["sgd"] for name, spent in turns.items()},
        "over_sam": {name: spent / turns["sam"] for name, spent in turns.items() if name not in ("sgd", "by_hand")},
        "extra_copies": extra_copies(config) if memory else {},
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch_size": config.batch_size,
        "depth": config.depth,
        "device": config.device,
        "threads": config.threads,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "versions": versions(),
    }
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / "steps.json", found)
    draw(found, config.out / "steps")
    click.echo(table(found))
    return found


def extra_copies(config: Config) -> dict[str, float]:
    """Peak memory of three steps of each rule over SGD's, in copies of the parameters."""
    script = Path(__file__)
    peaks = {
        name: printed_by(script, "--memory-of", name, "--wide", str(config.wide), "--device", config.device)
        for name in RULES
    }
    copy = 4e-6 * 2 * config.wide**2
    return {name: (peak - peaks["sgd"]) / copy for name, peak in peaks.items() if name != "sgd"}


def memory_of(name: str, wide: int, device: str) -> float:
    """Megabytes that three steps of a rule held at most, in this process."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(wide, wide, bias=False), nn.ReLU(), nn.Linear(wide, wide, bias=False)).to(device)
    network = Network(model, torch.randn(4, wide, device=device), torch.randint(10, (4,), device=device))
    step = network.step(RULES[name]())
    for _ in range(3):
        step()
    return own_peak(device)


def draw(found: dict[str, Any], stem: Path) -> list[Path]:
    """Bars of the time of a step in steps of SGD."""
    figure = Figure(figsize=(5.5, 2.4), layout="constrained")
    ax = figure.subplots()
    for place, (name, ratio) in enumerate(found["over_sgd"].items()):
        ax.barh(place, ratio, color=GREY if name in ("sgd", "by_hand") else BLUE)
        ax.text(ratio, place, f" {ratio:.2f}", va="center", fontsize=SMALL)
    ax.set_yticks(range(len(found["over_sgd"])), [_words(name) for name in found["over_sgd"]])
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel(
        f"time of a step, in steps of SGD (ResNet-{found['depth']}, batch {found['batch_size']}, {found['device']})"
    )
    ax.tick_params(labelsize=SMALL)
    return save_figure(figure, stem)


def table(found: dict[str, Any]) -> str:
    """The results as text."""
    lines = [f"{'':22}{'ms a step':>11}{'over SGD':>11}{'over SAM':>11}{'extra copies':>14}"]
    for name, spent in found["milliseconds"].items():
        numbers = [found["over_sgd"].get(name), found["over_sam"].get(name), found["extra_copies"].get(name)]
        cells = ["" if number is None else f"{number:.3f}" for number in numbers]
        lines.append(f"{_words(name):22}{spent:11.1f}{cells[0]:>11}{cells[1]:>11}{cells[2]:>14}")
    return "\n".join(lines)


def _words(name: str) -> str:
    own = {"by_hand": "SAM written by hand", "eigen_sam": f"Eigen-SAM, period {PERIOD}", "fisher_sam": "Fisher SAM"}
    return own.get(name, name.upper())


@click.command()
@click.option("--quick", is_flag=True, help="A small network, to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), default=Config.out, show_default=True)
@click.option("--device", default=Config.device, show_default=True)
@click.option("--memory-of", "rule", type=click.Choice(list(RULES)), default=None, hidden=True)
@click.option("--wide", type=int, default=Config.wide, hidden=True)
def command(quick: bool, out: Path, device: str, rule: str | None, wide: int) -> None:
    """Compare what a step of each rule costs."""
    if rule:
        click.echo(f"{memory_of(rule, wide, device)}")
        return
    config = Config(out=out, device=device)
    main(replace(config, **QUICK) if quick else config)


if __name__ == "__main__":
    command()
