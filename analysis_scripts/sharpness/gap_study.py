"""What the studies of sharpness and the generalisation gap share: how one is run, told and published."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from analysis_scripts._shared.frame import publish, with_palette
from analysis_scripts.sharpness.gap_claims import claims
from landscape.metrics import METRICS
from landscape.report import report_study
from landscape.report.evidence import gather
from landscape.report.summary import findings
from landscape.storage.manifest import read_json
from landscape.study.network_record import METRICS_FILE, Analysis
from landscape.study.study_runner import StudyConfig, broken, grid, run_study, seconds

RULES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "sam": {"rho": 0.05},
    "asam": {"rho": 0.5},
    "fisher_sam": {"rho": 0.1},
    "gsam": {"rho": 0.1, "alpha": 0.4},
}
DATA: dict[str, Any] = {"data_settings": {"test_size": 1197}}  # 600 images to train on: errors are known to 1 %
ABOUT_ATTENTION = ("geodesic",)
STUDIED = tuple(METRICS)
METRICS_OF_ALL = tuple(name for name in STUDIED if name not in ABOUT_ATTENTION)
COLORS = 32  # of figures that hold marks and text alone
FAMILIES = {"Rényi order": "renyi", "ball of the worst case": "worst_case_gap", "noise of the average": "average_gap"}


def members(folder: str, base: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], **chosen: Any) -> dict[str, Any]:
    """A grid with each rule's own settings, and columns that all its networks have in common."""
    rules = {rule: {"rule_settings": own} for rule, own in RULES.items()}
    networks = grid(folder, {**DATA, **base}, axes, rules)
    return {name: replace(own, chosen={**chosen, **own.chosen}) for name, own in networks.items()}


def measured_by(metrics: Sequence[str], samples: int | None) -> Analysis:
    """Metrics alone: no slices, and no density that is kept."""
    return Analysis(metrics, samples=samples, probes=0, line_points=0, plane_points=0)


def families(metrics: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Metrics that are variants of one another, by their names; a variant without others is none."""
    found = {
        family: tuple(name for name in metrics if name == start or name.startswith(f"{start}_"))
        for family, start in FAMILIES.items()
    }
    return {family: variants for family, variants in found.items() if len(variants) > 1}


def minutes_left(whole: StudyConfig) -> float:
    """Time one network that is still to do, which is kept, and take the others for as long."""
    failed = broken(whole)
    waiting = {
        name: own
        for name, own in whole.members.items()
        if name not in failed and not (Path(own.folder) / METRICS_FILE).exists()
    }
    if not waiting:
        return 0.0
    name, network = next(iter(waiting.items()))
    began = perf_counter()
    with suppress(ValueError):  # it may not come down to the loss, which the page tells
        run_study(replace(whole, members={name: network}, workers=1), progress=False)
    return (perf_counter() - began) * (len(waiting) - 1) / whole.workers / 60


def report(config: Any, whole: StudyConfig, title: str) -> Path:
    """Train and measure what is not done, write the page with its figures beside it, and what the papers claim."""
    count = len(whole.analysis.metrics or METRICS)
    click.echo(f"{len(whole.members)} networks on {whole.workers} processes, {count} metrics each")
    click.echo(f"about {minutes_left(whole):.0f} minutes")
    run_study(whole, progress=None)
    out = Path(config.folder)
    evidence = gather(whole)
    page = report_study(whole, out, title, embed=False, evidence=evidence)
    for figure in out.glob("*.png"):
        with_palette(figure, COLORS)
    for vector in out.glob("*.pdf"):
        vector.unlink()
    networks = out / "study.json"
    networks.write_text(json.dumps(read_json(networks), separators=(",", ":")))  # a repository keeps it: a third less
    found = {
        "title": title,
        "findings": findings(evidence),
        "order": evidence.order,
        "networks": len(evidence.rows),
        "left_out": len(evidence.broken),
        "held": evidence.held,
        "seconds": round(sum(seconds(whole).values()) / whole.workers, 1),
    }
    told = publish(config, "verdict", found, claims=claims(evidence))
    click.echo(f"{told['sentence']}\nopen {page}")
    return page
