"""`landscape evaluate`: how a trained network fares on its test set, under attack and on corrupted images."""

import json
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from landscape.checks import require
from landscape.cli.source import Source, source_options
from landscape.data import Images
from landscape.problem import Problem
from landscape.problem.batches import join
from landscape.problem.plugin import Splits
from landscape.report.study import writable
from landscape.study.robustness import robustness, run_robustness

TEXT = click.Path(dir_okay=False, path_type=Path)


@click.command("evaluate")
@source_options
@click.option("--samples", type=int, default=None, help="Use the first so many test images.")
@click.option("--images", default="", metavar="FOLDER", help="Images by class in place of the run's test set.")
@click.option("--size", type=float, default=8 / 255, show_default="8/255", help="Radius of the attacks; white is 1.")
@click.option("--corruptions/--no-corruptions", default=True, show_default=True, help="45 passes over the images.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "file", type=TEXT, default=None, help="Also write the errors as JSON.")
def evaluate_command(source: Source, file: Path | None, images: str, **settings: Any) -> None:
    """Test errors of a network: clean, top 5, FGSM, PGD-10, and nine corruptions in five severities.

    With --problem and --weights the images are those of the splits "train" and "test"; black and white are the least
    and largest values of each channel in "train".
    """
    if file is not None:
        writable(file.parent)
    if source.run is not None:
        found = run_robustness(source.run, images=images, device=source.device, **settings)
    else:
        require(not images, '--images belongs to RUN; elsewhere give them as the split "test"')
        problem, splits = source.open()
        found = robustness(_Seen(problem), _images(problem, splits), **settings)
    click.echo("\n".join(_lines(found)))
    if file is not None:
        file.write_text(json.dumps({"run": str(source), **found}, indent=2) + "\n")


class _Seen(nn.Module):
    """The network as the problem calls it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.model, self._call = problem.model, problem.forward

    def forward(self, inputs: Tensor) -> Tensor:
        return self._call(self.model, inputs)


def _images(problem: Problem, splits: Splits) -> Images:
    """Both splits in memory, where the network is."""
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    for name in ("train", "test"):
        require(name in splits, f'the data must have the splits "train" and "test", got {", ".join(splits)}')
        inputs, targets, _ = zip(*problem.with_data(splits[name]).batches_with_units(), strict=True)
        x, y = join(inputs), join(targets)
        tensors = isinstance(x, Tensor) and isinstance(y, Tensor) and y.dtype == torch.int64
        require(tensors, f'the split "{name}" must be tensors of images and of classes')
        parts[name] = x, y
    labels = parts["train"][1]
    classes = 1 + max(int(y.max()) for _, y in parts.values())
    return Images(*parts["train"], *parts["test"], labels, classes)


def _lines(found: dict[str, Any]) -> list[str]:
    count = found["samples"]
    lines = [f"{count} test samples, loss {found['loss']:.4f}"]
    for name, value in found.items():
        if name.endswith("error"):
            error = 100 * (value * (1 - value) / count) ** 0.5
            spread = f" ± {error:.2f}" if name != "corruption_error" else "  (mean of what follows)"
            lines.append(f"{name.removesuffix('_error'):16} {100 * value:6.2f} %{spread}")
    for name, values in found.get("corruptions", {}).items():
        lines.append(f"  {name:14} " + " ".join(f"{100 * value:6.2f}" for value in values) + " %")
    return lines
