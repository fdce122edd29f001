"""The page of one network: spectrum, sharpness, slices and checks, in numbers, figures and words."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import matplotlib

from landscape.plots.style import STYLE
from landscape.problem import Problem
from landscape.report.figures import save_all
from landscape.report.network_figures import network_figures
from landscape.report.network_findings import Effort, NetworkFindings, measure_network
from landscape.report.network_words import about, checks, curvature, limits, meaning, summary
from landscape.report.page import write_html
from landscape.storage.results import Measurements, versions


def report_network(
    problem: Problem,
    data: Mapping[str, Iterable[Any]],
    path: Path,
    name: str,
    effort: Effort | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Path:
    """Measure one network and write its page, one file; arguments and errors as in `measure_network`."""
    began = perf_counter()
    found = measure_network(problem, data, name, effort, say)
    return write_network(found, path, {"time": f"{perf_counter() - began:.0f} s"})


def write_network(found: NetworkFindings, path: Path, facts: Mapping[str, str] | None = None) -> Path:
    """Write the page of what was measured."""
    with TemporaryDirectory() as folder, matplotlib.rc_context(STYLE):
        figures = save_all(network_figures(found), Path(folder))
        content = {
            "title": f"How sharp is {Path(found.name).name}?",
            "answer": summary(found),
            "about": about(found),
            "limits": limits(found),
            "curvature": curvature(found),
            "checks": checks(found),
            "eigenvalues": found.pairs.rows(),
            "measures": [row | {"meaning": meaning(row["metric"])} for row in _ordered(found.measures)],
            "left_out": found.measures.left_out,
            "figures": figures,
            "facts": {**_facts(found), **(facts or {})},
        }
        return write_html("network.html", path, page=content)


def _ordered(measures: Measurements) -> list[dict[str, Any]]:
    """The rows of metrics, without those of shared work."""
    return [row for row in measures.rows() if row["value"] is not None]


def _facts(found: NetworkFindings) -> dict[str, str]:
    effort = found.effort
    settings = ", ".join(f"{key} {value}" for key, value in vars(effort).items() if key not in ("metrics", "subset"))
    return {
        "settings": settings.replace("_", " "),
        "cost of sharpness": f"{found.measures.gradient_times:.0f} gradients of the loss",
        "device": str(found.problem.device),
        "versions": ", ".join(f"{name} {value}" for name, value in versions().items()),
    }
