"""One HTML page, with its figures in it or beside it: opens from a file, without a network."""

import base64
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import inf, isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from landscape.metrics import METRICS
from landscape.plots.style import words
from landscape.report.evidence import TARGET, TRAIN_LOSS, Evidence, Rows
from landscape.report.figures import FigureFile
from landscape.storage.atomic import replacing
from landscape.storage.manifest import write_rows

FOLDERS = re.compile(r"(?<![\w.~/\\-])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:;,'\"]+[/\\])+(?=[\w.])")  # of a full path
OUTCOMES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "generalization_gap")


@dataclass(frozen=True)
class Page:
    """What the page of a study shows."""

    title: str  # the question
    answer: str  # in one sentence
    about: str  # which networks it is of
    findings: Sequence[str]
    limits: Sequence[str]
    evidence: Evidence
    figures: Sequence[FigureFile]
    settings: Mapping[str, Mapping[str, Any]]  # metric -> settings it was run with
    facts: Mapping[str, str]  # versions, seeds, times


def write_page(page: Page, path: Path, *, embed: bool = True) -> Path:
    """Write the page of a study in one rename; the figures in it, or beside it in its folder."""
    rows = page.evidence.rows
    outcomes = [key for key in OUTCOMES if key in rows[0]]
    columns = [key for key in page.evidence.correlations if key not in outcomes]
    networks = sorted(rows, key=lambda row: -row[TARGET] if isfinite(row[TARGET]) else inf)
    shown = {"outcomes": outcomes, "columns": columns, "networks": networks, "sorted_by": TARGET}
    return write_html("study.html", path, embed=embed, page=page, methods=methods(page), **shown)


def write_html(template: str, path: Path, *, embed: bool = True, **content: Any) -> Path:
    """Fill in a template of this folder and write it in one rename; full paths are no more than the file's name."""
    environment = Environment(
        loader=FunctionLoader(lambda name: files("landscape.report").joinpath(name).read_text()),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=without_folders,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    image = embedded if embed else _beside
    environment.filters |= {"words": words, "number": number, "signed": signed, "size_of": size_of, "image": image}
    text = environment.get_template(template).render(**content)
    with replacing(path) as written:
        written.write_text(text)
    return path


def without_folders(value: Any) -> Any:
    """A text without the folders of the full paths in it: a page is for others, whose machines have none of them."""
    return FOLDERS.sub("", value) if type(value) is str else value  # Markup, as a picture is, has none


def write_table(rows: Rows, path: Path) -> Path:
    """Write a table as CSV in one rename, numbers with seven digits."""
    return write_rows(path, [{key: _short(value) for key, value in row.items()} for row in rows])


def methods(page: Page) -> dict[str, str]:
    """How each metric was computed: the first line of its docstring and its settings."""
    found = {}
    for name in page.evidence.correlations:
        if name == TRAIN_LOSS:
            found[name] = "The mean loss over all training data, on the labels trained on."
            continue
        metric = METRICS[name]
        settings = {**metric.settings, **page.settings.get(name, {})}
        shown = ", ".join(f"{key} = {value}" for key, value in settings.items()) or "default settings"
        found[name] = f"{(inspect.getdoc(metric.function) or '').splitlines()[0]} ({shown})"
    return found


def number(value: Any) -> str:
    """Three significant digits; a dash where there is none."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if isfinite(value) else "–"


def signed(value: float) -> str:
    """A correlation with its sign; a dash where there is none."""
    return f"{value:+.2f}" if isfinite(value) else "–"


def size_of(value: float) -> str:
    """A correlation without its sign, by which a table is sorted; empty where there is none."""
    return f"{abs(value):.6g}" if isfinite(value) else ""


def embedded(path: Path) -> Markup:
    """A picture as a data URI: the page is one file."""
    return Markup("data:image/png;base64," + base64.b64encode(path.read_bytes()).decode())


def _beside(path: Path) -> str:
    return path.name


def _short(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) else value
