from dataclasses import replace
from math import nan
from pathlib import Path

from test_summary import evidence, rows

from landscape.report.page import Page, write_page


def test_the_page_marks_what_has_not_converged(tmp_path: Path) -> None:
    table = [{**row, "trace_converged": True, "renyi_converged": nan} for row in rows(1.0)]
    found = evidence(table)
    found = replace(found, costs=dict.fromkeys(found.correlations, 1.0))
    for row in table:
        row |= {f"{name}_stderr": 0.0 for name in found.correlations}
    page = Page("A study", [], [], found, [], {}, {})
    before = write_page(page, tmp_path / "before.html").read_text()
    assert "<small>not converged" not in before
    assert set(found.open.values()) == {0}
    table[3]["trace_converged"] = False
    after = write_page(page, tmp_path / "after.html").read_text()
    assert after.count("<small>not converged</small>") == 1  # in the network's row
    assert after.count("<small>1 not converged</small>") == 1  # in the metric's
    assert found.open["trace"] == 1
