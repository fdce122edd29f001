"""The reproductions page: every claim that a script has looked at, from the JSON files beside the figures.

Writes docs/reproductions.md; no script needs to run again for that.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from analysis_scripts._shared.claims import VERDICTS, Claim
from analysis_scripts._shared.not_made import NOT_MADE

PAGE, FIGURES = Path("docs/reproductions.md"), Path("figures")
HEAD = """# Reproductions

{counts}

What the papers claim and what comes out here, on small networks and data that two cores can train: digits (1,200
training images), toys, and what the scripts name. "Agrees" and "differs" are said where a 95 % interval decides,
"cannot say" where it does not; an effect on ImageNet may be there though it is not here. Each row is written by the
script, into the JSON file beside its figure; CPU minutes are of one core, and a search that several scripts share is in
those of the first; a row with the script "—" says why nothing was made.

`make figures` makes all figures and this page anew, two scripts side by side: an hour and a quarter on two cores;
killed, it goes on where it was. `make figures JOBS=8` is for larger machines. A script by itself, and its settings:
`python -m analysis_scripts.sharpness.pac_bayes --help`.

Figures without a claim: {others}.
"""
TABLE = """
## {paper}

| where | claim | found here | | script | CPU min |
|---|---|---|---|---|---|
"""
NO_CLAIM = {  # folders of figures without a claim, and why
    "benchmarks": "times of this package",
    "demo": "a first look for readers, one study",
    "interval_coverage": "this package's own intervals",
    "landscape_gallery": "pictures of single networks; published_landscapes has numbers over seeds",
}


@dataclass(frozen=True)
class Row:
    """A claim, and where it was looked at."""

    claim: Claim
    script: str = "—"
    minutes: str = "—"

    @property
    def source(self) -> tuple[str, str]:
        """Paper, and where in it: what stands before and after the first comma."""
        paper, _, where = self.claim.paper.partition(", ")
        return paper, where


def rows(figures: Path = FIGURES) -> list[Row]:
    """Of all scripts, and what was not made, sorted by paper and place."""
    found = [Row(claim) for claim in NOT_MADE]
    for file in sorted(figures.glob("*/*.json")):
        content = json.loads(file.read_text())
        for own in content.get("claims", ()) if isinstance(content, dict) else ():
            minutes = f"{content['cpu_seconds'] / 60:.1f}" if "cpu_seconds" in content else "—"
            found.append(Row(Claim(**own), file.parent.name, minutes))
    return sorted(found, key=lambda row: row.source)


def counts(found: Iterable[Row]) -> str:
    """How many rows of each verdict."""
    found = list(found)
    made = Counter(row.claim.verdict for row in found if row.script != "—")
    told = ", ".join(f'"{verdict}" {made[verdict]}' for verdict in VERDICTS)
    return f"{len(found)} claims: {told}; not made {len(found) - made.total()}."


def page(figures: Path = FIGURES) -> str:
    """The page's text."""
    found = rows(figures)
    others = "; ".join(f"{name} ({why})" for name, why in NO_CLAIM.items())
    text = HEAD.format(counts=counts(found), others=others)
    for paper, group in groupby(found, lambda row: row.source[0]):
        text += TABLE.format(paper=paper)
        for row in group:
            own = row.claim
            claim = f"{own.claim} {own.at}".strip()
            cells = (row.source[1], claim, own.found, own.verdict, row.script, row.minutes)
            text += "".join(f"| {cell} " for cell in (cell.replace("|", "\\|") for cell in cells)) + "|\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
