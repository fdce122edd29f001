"""Both pages as a keyboard, a screen reader, a phone and a dark room meet them."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape, unescape
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from page_outline import Outline, contrast, schemes
from planted import METRICS, evidence, rows
from torch import nn
from torch.nn import functional as F

from landscape.problem import Problem
from landscape.report import report_network
from landscape.report.figures import save_all
from landscape.report.metric_figures import forest, given, psi, ranks
from landscape.report.network_findings import Effort
from landscape.report.page import Page, write_page

PAGES = ("study", "network")
CHROMIUM = shutil.which("chromium")
AXE = os.environ.get("AXE", "")  # axe.min.js of axe-core, where somebody has it
with_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")


def small_problem() -> Problem:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return Problem(net, F.cross_entropy, (torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    found = evidence(rows(1.0))
    found = replace(found, costs=dict.fromkeys(METRICS, 1.0), in_error=found.correlations)
    table = [row | {f"{name}_stderr": 0.1 for name in METRICS} for row in found.rows]
    found = replace(found, rows=table)
    figures = save_all([draw(found) for draw in (forest, given, psi, ranks)], folder, 60)
    page = Page("A question?", "An answer.", "Networks.", ["found"], ["a limit"], found, figures, {}, {"seed": "0"})
    problem = small_problem()
    effort = Effort(("gradient_norm", "worst_case_gap"), 3, 12, 2, 5, 5, 5)
    with torch.random.fork_rng(devices=[]):
        report_network(problem, {"train": problem.data}, folder / "network.html", "mine.py:make", effort)
    return {
        "study": write_page(page, folder / "study.html").read_text(),
        "network": (folder / "network.html").read_text(),
    }


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest, pages: dict[str, str]) -> str:
    return pages[request.param]


def test_the_page_names_itself_and_has_one_main_part(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    (html,), (main,), (title,), (first,) = (outline.tags(tag) for tag in ("html", "main", "title", "h1"))
    assert html["lang"] == "en"
    assert title["text"] == first["text"] != ""
    assert any(meta.get("name") == "viewport" for meta in outline.tags("meta"))
    outside = [found for found in outline.tags("p", "table", "figure", "h2", "ul", "dl") if main not in found["in"]]
    assert outside == []


def test_headings_and_links_lead_somewhere(page: str) -> None:
    outline = Outline(page)
    levels = [int(found["tag"][1]) for found in outline.tags("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [found["id"] for found in outline.all if "id" in found]
    assert len(ids) == len(set(ids))
    assert all(link["href"].removeprefix("#") in ids and link["text"] for link in outline.tags("a"))


def test_figures_say_their_numbers_and_nothing_comes_from_outside(page: str) -> None:
    outline = Outline(page)
    images = outline.tags("img")
    assert len(images) >= 3
    for image in images:
        assert re.search(r"\d", image["alt"]), image["alt"]
        assert len(image["alt"]) > 40
        assert image["src"].startswith("data:image/png;base64,")
    assert not re.search(r"(src|href)=.(https?:)?//", page)


def test_tables_are_sorted_by_buttons_and_no_two_columns_share_a_name(page: str) -> None:
    outline = Outline(page)
    regions = [found for found in outline.all if "scroll" in found.get("class", "")]
    assert {found["tabindex"] + found["role"] for found in regions} == {"0region"}
    labels = [found["aria-label"] for found in regions]
    assert len(set(labels)) == len(labels) == len(outline.tags("table"))
    for table in outline.tags("table"):
        (top,) = outline.tags("thead", inside=table)
        heads = outline.tags("th", inside=top)
        names = [outline.tags("button", inside=head)[0]["text"].strip() for head in heads]
        assert all(names)
        assert len(set(names)) == len(names)
        assert {head["scope"] for head in heads} == {"col"}
        (body,) = outline.tags("tbody", inside=table)
        lines = outline.tags("tr", inside=body)
        for line in lines:
            cells = outline.tags("th", "td", inside=line)
            assert len(cells) == len(heads)
            assert cells[0]["scope"] == "row"
        for column, head in enumerate(heads):
            if "aria-sort" in head:
                values = [float(outline.tags("th", "td", inside=line)[column]["data-value"] or -1) for line in lines]
                assert values == sorted(values, reverse=True)


def test_the_study_is_sorted_by_its_answer(pages: dict[str, str]) -> None:
    outline = Outline(pages["study"])
    sorted_by = [head["data-name"] for head in outline.tags("th") if "aria-sort" in head]
    assert sorted_by == ["given training loss", "generalization gap"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(page: str, scheme: str) -> None:
    colors = schemes(page)[scheme]
    for text in ("ink", "soft", "accent"):
        for ground in ("paper", "wash"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    assert contrast("#000", "#fff") == pytest.approx(21.0)


def in_browser(folder: Path, page: str, script: str) -> object:
    """What a script finds, run in a frame of a phone's width: it has `view` and `document` of the page."""
    holder = folder / "holder.html"
    holder.write_text(
        f'<iframe style="width:420px;height:900px;border:0" srcdoc="{escape(page)}"></iframe><script>'
        'document.querySelector("iframe").addEventListener("load", async event => {'
        "const view = event.target.contentWindow, found = await (async (view, document) => {"
        f"{script}"
        '})(view, view.document); const told = document.createElement("pre"); told.id = "told";'
        "told.textContent = JSON.stringify(found); document.body.append(told); });</script>"
    )
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--dump-dom"]
    command = [str(CHROMIUM), *options, f"--user-data-dir={folder / 'browser'}", holder.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    told = re.search(r'<pre id="told">(.*?)</pre>', shown, re.DOTALL)
    assert told is not None, shown[-500:]
    return json.loads(unescape(told.group(1)))


@with_chromium
def test_a_phone_scrolls_down_only_and_a_button_sorts(page: str, tmp_path: Path) -> None:
    script = """
        const table = document.querySelector("table"), head = table.querySelectorAll("thead th")[1];
        const column = () => [...table.tBodies[0].rows].map(row => Number(row.cells[1].dataset.value));
        head.removeAttribute("aria-sort"); head.querySelector("button").click(); const down = column();
        head.querySelector("button").click();
        return [document.documentElement.scrollWidth, view.innerWidth, down, column(), head.getAttribute("aria-sort")];
    """
    wide, room, down, up, sort = in_browser(tmp_path, page, script)  # type: ignore[misc]
    assert wide <= room == 420
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert sort == "ascending"


@with_chromium
@pytest.mark.skipif(not AXE, reason="AXE names no axe.min.js")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(page: str, dark: bool, tmp_path: Path) -> None:
    page = page.replace("(prefers-color-scheme: dark)", "all") if dark else page
    script = f"""
        const code = document.createElement("script"); code.textContent = {json.dumps(Path(AXE).read_text())};
        document.head.append(code); const found = await view.axe.run(document);
        return found.violations.map(one => one.id + " " + one.nodes[0].html);
    """.replace("</script", "<\\/script")
    assert in_browser(tmp_path, page, script) == []
