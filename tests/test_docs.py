"""The site: the code of its pages runs, every public name has its entry and its example, links lead somewhere."""

import importlib.util
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch

import landscape
from landscape import metrics, plots, study

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "```python\n" in page.read_text())
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))

chromium = shutil.which("chromium") or shutil.which("google-chrome")


def code(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def seen(page, query=""):
    """The page as a browser has it, opened from its folder."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"]
    return subprocess.run(
        [chromium, *options, f"{page.as_uri()}{query}"], check=True, capture_output=True, text=True
    ).stdout


def needs(*packages):
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{missing} not installed: pip install 'landscape-toolkit[docs]'")


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "figures").symlink_to(ROOT / "figures")  # what the gallery draws
    scope: dict[str, Any] = {"__name__": "page"}
    with torch.random.fork_rng(devices=[]):
        for number, block in enumerate(code(page), 1):
            exec(compile(block, f"{page.name}, block {number}", "exec"), scope)
    plt.close("all")


@pytest.mark.parametrize("room", [landscape, metrics, plots, study], ids=lambda room: room.__name__)
def test_every_public_name_has_its_entry_and_an_example(room):
    entries = {}
    for page in (DOCS / "api").glob("*.md"):
        for name in re.findall(r"^::: (landscape(?!\.interop)[\w.]*)", page.read_text(), re.MULTILINE):
            entries[id(resolve_name(":".join(name.rsplit(".", 1))))] = " ".join(code(page))
    for name in room.__all__:
        found = id(getattr(room, name))
        assert found in entries, f"docs/api has no `::: {room.__name__}.{name}`"
        assert re.search(rf"\b{name}\b", entries[found]), f"no example of {room.__name__}.{name} on its page"


@needs("mkdocs", "mkdocstrings", "mkdocs_jupyter", "material")
def test_the_site_is_built_without_a_dead_link(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (tmp_path / "404.html").unlink()  # for a server
    assert (tmp_path / "search" / "search_index.js").exists()  # found without a server
    shown = "".join(page.read_text() for page in tmp_path.glob("api/*.html"))
    rooms = re.findall(r'doc-module">\s*<h3 id="([\w.]+)"', shown)  # and no module in place of its function
    assert sorted(rooms) == ["landscape.metrics", "landscape.objectives", "landscape.rules"]
    for page in {*tmp_path.rglob("*.html")} - {*tmp_path.glob("figures/**/*.html")}:
        assert 'src="http' not in page.read_text(), f"{page} fetches something"
        for link in re.findall(r'(?:src|href)="([^"#?:]+)"', page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(tmp_path)} leads to {link}"
    assert chromium is None or "matching document" in seen(tmp_path / "index.html", "?q=xtrace")


@needs("nbclient", "ipykernel")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_tutorial_runs(notebook, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the messaging between kernel and client
        where = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(nbformat.read(notebook, 4), timeout=120, kernel_name="python3", resources=where).execute()
