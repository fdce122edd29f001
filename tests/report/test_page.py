import re
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from planted import METRICS, evidence, rows

from landscape.report.figures import FigureFile
from landscape.report.page import Page, write_page


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
