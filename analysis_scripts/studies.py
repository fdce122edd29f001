"""The page of the studies: what follows the generalisation gap where the training loss is held, then where it is not.

Writes docs/study.md from the files beside the figures; no script needs to run again for that.
"""

import csv
import json
from pathlib import Path
from typing import Any

from landscape.plots.style import words

PAGE, FIGURES = Path("docs/study.md"), Path("figures")
STUDIES = ("equal_loss", "equal_loss_transformers", "sharpness_vs_generalization")
SHOWN = 12  # rows of a table
HEAD = """# Which sharpness measure follows the generalisation gap?

Three studies on digits with wrong labels (600 images to train on, 1,197 to test on). First come networks that were
trained to one training loss, so that no measure is credited with what the loss tells already; last come networks of
equal epochs, where the training loss is held by a partial correlation. Every page linked below has all metrics, both
gaps (in loss and in error, to clean test labels and to labels as noisy as those trained on), and what the networks
cannot tell. Made by `python -m analysis_scripts.studies` from what the scripts found.
"""
COLUMNS = ("metric", "tau", "given training loss", "tau, error", "tau, loss, noisy labels", "tau, error, noisy labels")
GAPS = ("generalization_gap", "accuracy_gap", "noisy_generalization_gap", "noisy_accuracy_gap")


def section(folder: Path) -> str:
    """One study: what was found, its figure, and the metrics that tell most."""
    told = json.loads((folder / "verdict.json").read_text())
    with (folder / "correlations.csv").open(newline="") as file:
        lines = {(line["metric"], line["target"]): line for line in csv.DictReader(file)}
    here, left_out = f"../{folder}", told["left_out"]
    left = f", {left_out} more left out" if left_out else ""
    figure = "tau" if told["held"] else "held"
    parts = [
        f"\n## {told['title']}\n",
        f"`python -m analysis_scripts.sharpness.{folder.name}`: {told['networks']} networks{left}. "
        f"[The page with all metrics and figures]({here}/report.html) (to be opened in a browser), "
        f"[the numbers]({here}/correlations.csv).\n",
        *(f"- {sentence}" for sentence in told["findings"][:2]),
        f"\n![Rank correlation of each metric with the generalisation gap, with intervals]({here}/{figure}.png)\n",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    names = [*told["order"][:SHOWN], *(["train_loss"] if "train_loss" not in told["order"][:SHOWN] else [])]
    return "\n".join([*parts, *(_row(name, lines) for name in names)]) + "\n"


def _row(name: str, lines: dict[tuple[str, str], dict[str, Any]]) -> str:
    loss, *others = (lines.get((name, gap)) for gap in GAPS)
    assert loss is not None
    cells = [_said(loss, "tau", "low", "high"), _said(loss, "partial", "partial_low", "partial_high")]
    cells += [_said(own, "tau") if own else "–" for own in others]
    return f"| {words(name)} | {' | '.join(cells)} |"


def _said(line: dict[str, Any], *keys: str) -> str:
    value, *ends = (f"{float(line[key]):+.2f}" for key in keys)
    if value == "+nan":
        return "–"
    return f"{value} [{', '.join(ends)}]" if ends else value


def page(figures: Path = FIGURES) -> str:
    """The page's text."""
    return HEAD + "".join(section(figures / name) for name in STUDIES if (figures / name / "verdict.json").exists())


if __name__ == "__main__":
    PAGE.write_text(page())
