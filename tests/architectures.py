"""The zoo of small networks outside the ordinary, and the table of docs/trust.md that its records make.

`python tests/architectures.py` writes the table into the page.
"""

from pathlib import Path

import kinds_losses
import kinds_networks
import kinds_torch
import kinds_transformers
from kinds import KINDS, Kind

FILES = [module.__name__ for module in (kinds_transformers, kinds_networks, kinds_losses, kinds_torch)]
PAGE = Path(__file__).parent.parent / "docs" / "trust.md"
BEGIN, END = "<!-- the zoo's records make this table -->\n", "<!-- end of the table -->\n"
COLUMNS = {
    "gradient": "gradient",
    "slice": "loss, slice",
    "hessian": "H",
    "ggn": "G, exact F",
    "empirical": "empirical F",
}


def row(kind: Kind) -> str:
    """A kind as a line of the table."""
    answers = ["refused" if quantity in kind.refused else "right" for quantity in COLUMNS]
    checked = "number or None" if kind.kinks else "number"
    if "hessian" in kind.refused:
        checked = "–"
    return "| " + " | ".join([kind.name, *answers, checked, kind.note]) + " |"


def table() -> str:
    """All kinds, in markdown."""
    ordered = sorted(KINDS.values(), key=lambda kind: FILES.index(kind.make.__module__))
    head = ["network", *COLUMNS.values(), "`H.verified`", ""]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *map(row, ordered)]) + "\n"


def with_table(page: str) -> str:
    """The page with its table made anew."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
