"""The reproductions page: every claim that a script has looked at, from the JSON files beside the figures.

Writes docs/reproductions.md; no script needs to run again for that.
"""

import json
from collections.abc import Iterator
from pathlib import Path

PAGE, FIGURES = Path("docs/reproductions.md"), Path("figures")
COLUMNS = ("paper", "claim", "found", "verdict")
HEAD = """# Reproductions

What the papers claim and what comes out here, on small networks and data that two cores can train: digits (1,200
training images), toys, and what the scripts name. "Agrees" and "differs" are said where a 95 % interval decides,
"cannot say" where it does not; an effect on ImageNet may be there though it is not here. Each row is written by the
script, into the JSON file beside its figure, and this page from these files by
`python -m analysis_scripts.reproductions`.

| paper | claim | found here | | script | minutes |
|---|---|---|---|---|---|
"""


def rows(figures: Path = FIGURES) -> Iterator[list[str]]:
    """The cells of each claim."""
    for file in sorted(figures.glob("*/*.json")):
        content = json.loads(file.read_text())
        for own in content.get("claims", ()) if isinstance(content, dict) else ():
            yield [*(own[key] for key in COLUMNS), file.parent.name, f"{content['seconds'] / 60:.1f}"]


def page(figures: Path = FIGURES) -> str:
    """The page's text."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in cells) for cells in rows(figures)]
    return HEAD + "".join(f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
