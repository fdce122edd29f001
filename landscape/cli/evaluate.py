"""`landscape evaluate`: how a trained network fares on its test set, under attack and on corrupted images."""

import json
from pathlib import Path
from typing import Any

import click

from landscape.cli.source import FOLDER
from landscape.report.study import writable
from landscape.study.robustness import run_robustness

TEXT = click.Path(dir_okay=False, path_type=Path)


@click.command("evaluate")
@click.argument("run", type=FOLDER)
@click.option("--samples", type=int, default=None, help="Use the first so many test images.")
@click.option("--images", default="", metavar="FOLDER", help="Images by class in place of the run's test set.")
@click.option("--size", type=float, default=8 / 255, show_default="8/255", help="Radius of the attacks; white is 1.")
@click.option("--corruptions/--no-corruptions", default=True, show_default=True, help="45 passes over the images.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps; auto as for train.")
@click.option("--json", "file", type=TEXT, default=None, help="Also write the errors as JSON.")
def evaluate_command(run: Path, file: Path | None, **settings: Any) -> None:
    """Test errors of the network in RUN: clean, top 5, FGSM, PGD-10, and nine corruptions in five severities."""
    if file is not None:
        writable(file.parent)
    found = run_robustness(run, **settings)
    click.echo("\n".join(_lines(found)))
    if file is not None:
        file.write_text(json.dumps({"run": str(run), **found}, indent=2) + "\n")


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
