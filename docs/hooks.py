"""What the site has beside the pages of docs/: the figures, the scripts that made them, and a section for each.

Pages name both as GitHub does, by ../figures/ and ../analysis_scripts/; here figures are copied and scripts are pages.
"""

import ast
import json
import re
from pathlib import Path

from mkdocs.structure.files import File
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[1]
SHOWN = (".png", ".gif", ".csv", ".html")
MARK = "<!-- here the site has a section for each script -->"
SCRIPTS = {path.stem: path for path in sorted((ROOT / "analysis_scripts").glob("*/*.py")) if path.stem != "__init__"}


def on_files(files, config):
    """Add every figure under figures/, and a page for every script."""
    for path in sorted((ROOT / "figures").rglob("*")):
        if path.suffix in SHOWN:
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for name, path in SCRIPTS.items():
        files.append(File.generated(config, f"scripts/{name}.md", content=_page(name, path)))
    return files


def on_page_markdown(markdown, page, **_):
    """From a page of docs/ one folder less leads to figures and scripts."""
    if MARK in markdown:
        markdown = markdown.replace(MARK, "\n\n".join(_section(name, markdown) for name in SCRIPTS if _figures(name)))
    markdown = re.sub(r"(?<=[(\"])((?:\.\./)+)figures/", lambda found: found[1][3:] + "figures/", markdown)
    script = r"\(((?:\.\./)+)analysis_scripts/\w+/(\w+)\.py\)"
    return re.sub(script, lambda found: f"({found[1][3:]}scripts/{found[2]}.md)", markdown)


def on_post_page(output, page, config):
    """The search needs no network: what the theme would fetch for pages in a folder is a file of ours.

    Links of a notebook lead to pages, as those of other pages do.
    """
    if page.file.src_uri.endswith(".ipynb"):
        output = re.sub(r'href="(\.\./[\w/]+)\.md"', r'href="\1.html"', output)
    return output.replace("https://unpkg.com/iframe-worker/shim", get_relative_url("frame_worker.js", page.url))


def _figures(name):
    return sorted((ROOT / "figures" / name).glob("*.png"))


def _section(name, shown):
    """What the script asks, its figures but those that the page has shown, and how to make them."""
    path = SCRIPTS[name]
    title = (ast.get_docstring(ast.parse(path.read_text())) or name).split("\n\n")[0].replace("\n", " ")
    images = [
        f"![{_said(figure) or title}](../figures/{name}/{figure.name}){{ loading=lazy }}"
        for figure in _figures(name)
        if f"figures/{name}/{figure.name}" not in shown
    ]
    command = f"`python -m analysis_scripts.{path.parent.name}.{name}`, [the code](scripts/{name}.md)"
    return "\n\n".join([f"### {name.replace('_', ' ')}", title, *images, command])


def _said(figure):
    """The sentence that stands in the file beside a figure, as a text for those who do not see it."""
    file = figure.with_suffix(".json")
    found = json.loads(file.read_text()) if file.exists() else {}
    return found.get("sentence", "").translate(str.maketrans("[]\n", "() "))


def _page(name, path):
    where = path.relative_to(ROOT).as_posix()
    return f"---\nsearch:\n  exclude: true\n---\n\n# {name}\n\n`{where}`\n\n```python\n{path.read_text()}```\n"
