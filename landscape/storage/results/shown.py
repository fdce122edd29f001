"""How results show themselves: a line of facts and a short table, as text or as HTML, and whole as a data frame.

Nothing is computed for it and no data are read.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor

ROWS = 10  # of a table that are shown
Lines = Sequence[tuple[str, ...]]  # of a table, its head first


class Shown:
    """Base of what shows itself; subclasses give `_facts`, and `_preview` where a table belongs below."""

    def _facts(self) -> Mapping[str, Any]:
        """What a stranger asks first; None and "" are left out, the name "" is not shown."""
        return {}

    def _preview(self) -> Lines:
        return []

    def _notes(self) -> list[str]:
        return []

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={text}" if name else text for name, text in self._told())
        return "\n".join([f"{type(self).__name__}({facts})", *aligned(self._preview()), *self._notes()])

    def _repr_html_(self) -> str:
        facts = ", ".join(f"{name} {text}".strip() for name, text in self._told())
        head, *body = self._preview() or [()]
        rows = [_html(head, "th"), *(_html(line, "td") for line in body)] if head else []
        notes = "".join(f"<div>{escape(note)}</div>" for note in self._notes())
        title = f"<div><b>{escape(type(self).__name__)}</b> {escape(facts)}</div>"
        return f"{title}<table>{''.join(rows)}</table>{notes}" if rows else title + notes

    def _told(self) -> list[tuple[str, str]]:
        return [(name, cell(value)) for name, value in self._facts().items() if value not in (None, "")]


class Drawn(Shown):
    """Base of what has a figure."""

    plot: ClassVar[Callable[..., Any]]  # attached from above: results do not know what draws them


class Table(Drawn):
    """Base of results that are tables; subclasses give `_columns`."""

    def _columns(self) -> Mapping[str, Tensor | Sequence[Any]]:
        """Name to values, all of one length."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Any]]:
        """The table, a row each."""
        columns = {name: listed(values) for name, values in self._columns().items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_frame(self) -> Any:
        """The table as a pandas.DataFrame. Raises ImportError without pandas."""
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise ImportError("to_frame needs pandas; pip install 'landscape-toolkit[frames]'") from error
        return pandas.DataFrame({name: listed(values) for name, values in self._columns().items()})

    def _preview(self) -> Lines:
        """The first rows."""
        columns = self._columns()
        cells = [[cell(value) for value in listed(values[:ROWS])] for values in columns.values()]
        more = len(next(iter(columns.values()))) - ROWS
        rest = [(f"... {more:,} more", *[""] * (len(columns) - 1))] if more > 0 else []
        return [tuple(columns), *zip(*cells, strict=True), *rest]


def listed(values: Tensor | Iterable[Any]) -> list[Any]:
    """As a list of Python's own numbers."""
    return values.detach().cpu().tolist() if isinstance(values, Tensor) else list(values)


def cell(value: Any) -> str:
    """A value in few digits."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().tolist()
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.5g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def with_error(value: float, error: float) -> str:
    """Value ± error, or the value alone where it is exact."""
    return f"{value:.6g}" + (f" ± {error:.2g}" if error else "")


def span(values: Tensor) -> str:
    """From the lowest to the highest finite value."""
    finite = values.detach()[values.isfinite()]
    return f"{float(finite.min()):.4g} to {float(finite.max()):.4g}" if finite.numel() else ""


def aligned(lines: Lines, left: Sequence[int] = (0,)) -> list[str]:
    """Columns under each other, numbers to the right, the `left` ones to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    begins = {index % len(widths) for index in left} if widths else set()
    return [
        "  ".join(
            text.ljust(width) if index in begins else text.rjust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _html(line: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(text)}</{tag}>' for text in line)}</tr>"
