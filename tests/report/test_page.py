import re
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from planted import METRICS, evidence, rows

from landscape.metrics import METRICS as ALL
from landscape.report.figures import FigureFile
from landscape.report.metric_figures import scatter
from landscape.report.page import Page, without_folders, write_page


@pytest.mark.parametrize("embed", [True, False])
def test_the_page_holds_its_figures_or_has_them_beside_it(tmp_path: Path, embed: bool) -> None:
    table = rows(1.0)
    for row in table:
        row |= {f"{name}_stderr": 0.0 for name in METRICS}
    found = replace(evidence(table), costs=dict.fromkeys(METRICS, 1.0))
    (tmp_path / "tau.png").write_bytes(b"png")
    page = Page(
        "A study",
        "It does.",
        "60 networks.",
        [],
        [],
        found,
        [FigureFile("Tau", "of all", tmp_path / "tau.png", "tau of all")],
        {},
        {},
    )
    text = write_page(page, tmp_path / "report.html", embed=embed).read_text()
    assert ('<img src="data:image/png;base64,cG5n"' in text) == embed
    assert ('<img src="tau.png"' in text) == (not embed)
    body = text.split("<tbody>")[1]
    assert re.findall(r'<th scope="row">([a-z ]+)</th>', body)[:4] == [name.replace("_", " ") for name in found.order]


def test_the_page_marks_what_has_not_converged(tmp_path: Path) -> None:
    table = [{**row, "trace_converged": True, "renyi_converged": nan} for row in rows(1.0)]
    found = evidence(table)
    found = replace(found, costs=dict.fromkeys(found.correlations, 1.0))
    for row in table:
        row |= {f"{name}_stderr": 0.0 for name in found.correlations}
    page = Page("A study", "It does.", "60 networks.", [], [], found, [], {}, {})
    before = write_page(page, tmp_path / "before.html").read_text()
    assert "<small>not converged" not in before
    assert set(found.open.values()) == {0}
    table[3]["trace_converged"] = False
    after = write_page(page, tmp_path / "after.html").read_text()
    assert after.count("<small>not converged</small>") == 1  # in the network's row
    assert after.count("<small>1 not converged</small>") == 1  # in the metric's
    assert found.open["trace"] == 1


def test_full_paths_are_the_name_of_the_file_alone(tmp_path: Path) -> None:
    table = rows(1.0)
    found = evidence(table)
    found = replace(found, costs=dict.fromkeys(found.correlations, 1.0))
    for row in table:
        row |= {f"{name}_stderr": 0.0 for name in found.correlations}
    page = Page("A study", "Of /home/me/nets/a.", "b", [], [], found, [], {}, {"factory": "/home/me/mine.py:make"})
    text = write_page(page, tmp_path / "report.html").read_text()
    assert "/home" not in text
    for name in ("Of a.", "<dd>mine.py:make</dd>"):
        assert name in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("checkpoint '/a/b/c.pt' is missing", "checkpoint 'c.pt' is missing"),
        ("C:\\Users\\me\\x.pt", "x.pt"),
        ("data path /data/cifar/, lr 0.1", "data path cifar/, lr 0.1"),
        ("(/home/me/run-0.1)", "(run-0.1)"),
        *((same, same) for same in ("../runs/a/b", "~/a/b", "https://a.org/b/c", "1/2/3", "∂L/∂w / |w|", "x / y/z")),
    ],
)
def test_what_is_no_full_path_stays(text: str, shown: str) -> None:
    assert without_folders(text) == shown


@pytest.mark.parametrize("count", [4, 13])
def test_long_names_of_metrics_fit_under_their_panels(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(ALL, key=len)[-count:]
    monkeypatch.setattr("planted.METRICS", names)
    table = [row | dict.fromkeys(names, row["trace"]) for row in rows(1.0)[:20]]
    found = evidence([row | {"generalization_gap": row["generalization_gap"] / 1000} for row in table])
    figure = scatter(found).figure
    figure.draw_without_rendering()
    for label in (ax.xaxis.label for ax in figure.axes):
        extent = label.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.width
