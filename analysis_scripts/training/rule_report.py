"""What rule_table.py found, as csv, as a markdown table and in words."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = "rule | tuned | error (%), equal gradients | equal epochs | best epoch | gap | λmax"
COLUMNS += " | wrong labels fitted | ms a step"
Row = dict[str, Any]


def at_edge(own: Row) -> bool:
    """Whether the best of the values tried was the smallest or the largest: a further one might be better."""
    values = [value for value, _ in own["tuning"]]
    return own["value"] in (min(values), max(values))


def sentence(rows: Sequence[Row], base: str) -> str:
    """What came out, in words."""
    first = next(own for own in rows if own["name"] == base)
    parts = []
    for budget in ("gradients", "epochs"):
        order = sorted((own for own in rows if own["name"] != base), key=lambda own: own[budget]["error"][0])
        better = [own["name"] for own in order if own[budget]["minus_first"][2] < 0]
        worse = [own["name"] for own in order if own[budget]["minus_first"][1] > 0]
        lowest = order[0]
        parts.append(
            f"At equal {budget} {base} errs on {_percent(first[budget]['error'][0])}, the best rule, {lowest['name']}, "
            f"on {_percent(lowest[budget]['error'][0])}; seed by seed {len(better)} of {len(order)} are better than "
            f"{base} beyond a 95 % interval and {len(worse)} worse" + (f" ({', '.join(worse)})." if worse else ".")
        )
    edges = sum(at_edge(own) for own in rows)
    return (
        " ".join(parts)
        + f" At its best epoch, which nobody knows without test labels, {base} errs on "
        + f"{_percent(first['gradients']['best'])}. The tuned value of {edges} rows (*) is at the edge of those tried."
    )


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """The table's numbers, a line a variant and budget."""
    lines = [_flat(own, budget) for own in rows for budget in ("gradients", "epochs")]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def markdown(rows: Sequence[Row], said: str) -> str:
    """The table as README files show it, the smallest error at equal gradients on top."""
    lines = [f"| {COLUMNS} |", "| --- |" + " --- |" * COLUMNS.count("|")]
    for own in rows:
        equal = own["gradients"]
        cells = [
            own["name"],
            f"{own['value']:g}" + "*" * at_edge(own),
            _pm(equal["error"]),
            _pm(own["epochs"]["error"]),
        ]
        cells += [f"{100 * equal['best']:.1f}", f"{equal['gap'][0]:+.2f}", f"{equal['lambda_max'][0]:.3g}"]
        lines.append("| " + " | ".join([*cells, _percent(equal["fitted"]), f"{own['ms_a_step']:.1f}"]) + " |")
    return "\n".join(lines) + f"\n\n{said}\n"


def _flat(own: Row, budget: str) -> Row:
    found = own[budget]
    line = {"name": own["name"], "budget": budget, "epochs": found["epochs"], "passes": own["passes"]}
    line |= {"value": own["value"], "lr": own["lr"], "diverged": found["diverged"]}
    for key in ("error", "minus_first", "gap", "lambda_max"):
        middle = "median" if key == "lambda_max" else "mean"
        line |= {f"{key}_{part}": f"{x:.5g}" for part, x in zip((middle, "low", "high"), found[key], strict=True)}
    line |= {key: f"{found[key]:.4f}" for key in ("best", "fitted")}
    return line | {"ms_a_step": f"{own['ms_a_step']:.3g}"}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _pm(found: Sequence[float]) -> str:
    return f"{100 * found[0]:.1f} ± {100 * (found[2] - found[0]):.1f}"
