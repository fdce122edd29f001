"""What rule_table.py found, as csv, as a markdown table and in words."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.over_seeds import difference, verdict

COLUMNS = "rule | error (%), equal gradients | minus SGD's | error (%), equal epochs | minus SGD's | best epoch | gap"
COLUMNS += (
    " | λmax | wrong labels fitted | ms a step | tuned at equal gradients: lr, weight decay, radius | points tried"
)
CLAIMS = (  # paper, the rule that errs less, than which, at which budget
    ("Foret et al. 2021, table 1", "SAM", "SGD", "gradients"),
    ("Foret et al. 2021, C.5", "SAM", "Random perturbation", "epochs"),
    ("Foret et al. 2021, C.5", "SAM", "SAM, p = ∞", "epochs"),
    ("Kwon et al. 2021, abstract", "ASAM", "SAM", "epochs"),
    ("Kim et al. 2022, table 1", "Fisher SAM", "SAM", "epochs"),
    ("Kim et al. 2022, table 1", "Fisher SAM", "ASAM", "epochs"),
    ("Zhuang et al. 2022, table 1", "GSAM", "SAM", "epochs"),
    ("Zhuang et al. 2022, table 2", "GSAM", "SAM, f_p + λh", "epochs"),
    ("Zhuang et al. 2022, section 6.4", "GSAM", "GSAM, min (f, h)", "epochs"),
    ("Zhuang et al. 2022, table 5", "GSAM", "SGD", "gradients"),  # SGD trains twice the epochs
    ("Luo et al. 2024, tables", "Eigen-SAM", "SAM", "epochs"),
    ("Luo et al. 2024, controls", "SAM", "Reverse-SAM", "epochs"),
    ("Du et al. 2022, abstract", "SAF", "SGD", "epochs"),
    ("Du et al. 2022, abstract", "MESA", "SGD", "epochs"),
    ("Yao et al. 2021, table 2", "AdaHessian", "SGD", "epochs"),
)
Row = dict[str, Any]


def edges_of(own: Row) -> int:
    """Tuned values, of both budgets, that are at an edge of those tried: a further one might be better."""
    return sum(len(own[budget]["edges"]) for budget in ("gradients", "epochs"))


def sentence(rows: Sequence[Row], base: str) -> str:
    """What came out, in words."""
    first = next(own for own in rows if own["name"] == base)
    others = [own for own in rows if own["name"] != base]
    parts = []
    for budget in ("gradients", "epochs"):
        order = sorted(others, key=lambda own: own[budget]["error"][0])
        lowest, highest = order[0], order[-1]
        better = sum(own[budget]["minus_first_for_all"][2] < 0 for own in order)
        worse = [own["name"] for own in order if own[budget]["minus_first_for_all"][1] > 0]
        parts.append(
            f"At equal {budget} {base} errs on {_pm(first[budget]['error'])} %, {lowest['name']} on "
            f"{_pm(lowest[budget]['error'])} %, {highest['name']} on {_pm(highest[budget]['error'])} %; seed by seed, "
            f"by intervals that hold for all {len(order)} rows, {better} are better than {base} and {len(worse)} worse"
            + (f" ({', '.join(worse)})." if worse else ".")
        )
    edges = sum(edges_of(own) for own in rows)
    known = f"At its best epoch, which nobody knows without test labels, {base} errs on "
    known += f"{100 * first['gradients']['best']:.1f} %."
    tuned = "No tuned value is at an edge of those tried." if not edges else f"Tuned values at an edge (*): {edges}."
    return " ".join([*parts, known, tuned])


def claims(rows: Sequence[Row]) -> list[Claim]:
    """The papers', seed by seed, for rules that trained with all of them."""
    found, named = [], {own["name"]: own for own in rows}
    for paper, one, other, budget in CLAIMS:
        ends = [named[name][budget] for name in (one, other) if name in named]
        if len(ends) == 2 and not any(own["diverged"] for own in ends):
            less = [100 * end for end in difference(ends[0]["errors"], ends[1]["errors"])]
            text = f"{points(less)} at equal {budget}"
            found.append(Claim(paper, f"{one} errs less than {other}", text, verdict(less, -1)))
    return found


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
        cells = [own["name"] + "*" * bool(edges_of(own))]
        for found in (equal, own["epochs"]):
            mean, low, high = (100 * end for end in found["minus_first"])
            cells += [_pm(found["error"]), f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"]
        cells += [f"{100 * equal['best']:.1f}", f"{equal['gap'][0]:+.2f}", f"{equal['lambda_max'][0]:.3g}"]
        cells += [f"{100 * equal['fitted']:.1f} %", f"{own['ms_a_step']:.1f}", _point(equal["tuned"])]
        lines.append("| " + " | ".join([*cells, str(equal["points"])]) + " |")
    return "\n".join(lines) + f"\n\n{said}\n"


def _flat(own: Row, budget: str) -> Row:
    found = own[budget]
    line = {"name": own["name"], "budget": budget, "epochs": found["epochs"], "passes": own["passes"]}
    line |= {name: found["tuned"].get(name, "") for name in ("lr", "weight_decay", "radius")}
    line |= {"points": found["points"], "at_edge": " ".join(found["edges"]), "diverged": found["diverged"]}
    for key in ("error", "minus_first", "minus_first_for_all", "gap", "lambda_max"):
        middle = "median" if key == "lambda_max" else "mean"
        line |= {f"{key}_{part}": f"{x:.5g}" for part, x in zip((middle, "low", "high"), found[key], strict=True)}
    line |= {key: f"{found[key]:.4f}" for key in ("validation_error", "best", "fitted")}
    return line | {"ms_a_step": f"{own['ms_a_step']:.3g}"}


def _point(tuned: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.3g}" for value in tuned.values())


def _pm(found: Sequence[float]) -> str:
    return f"{100 * found[0]:.1f} ± {100 * (found[2] - found[0]):.1f}"
