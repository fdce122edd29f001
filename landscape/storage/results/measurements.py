"""Metrics of one network as a dict of name to Estimate, with the cost of what they shared, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from landscape.storage.manifest import write_json, write_rows
from landscape.storage.results.record import versions
from landscape.storage.results.shown import Lines, Table, aligned
from landscape.storage.results.spectra import Estimate

SHARED = "shared: "  # begins the name of a row that is no metric
HEADS = ("metric", "value", "stderr", "gradient_times", "share", "seconds", "data", "converged", "alone")
OPEN = "*"  # marks a value that has not converged


@dataclass(frozen=True)
class Spent:
    """Cost of work that several metrics share."""

    gradient_times: float
    seconds: float
    verified: float | None = None  # largest disagreement of an operator inside with differences; NaN: none decides


class Measurements(Table, dict[str, Estimate]):
    """Name to Estimate.

    Attributes:
        shared: what several metrics share, by what it is, to its cost; no metric's cost holds it.
        left_out: metrics that were not computed, to the reason.
        uses: metric to what it shares, or to metrics that it is made of.
    """

    def __init__(
        self,
        estimates: Mapping[str, Estimate],
        shared: Mapping[str, Spent],
        left_out: Mapping[str, str],
        uses: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(estimates)
        self.shared, self.left_out, self.uses = dict(shared), dict(left_out), dict(uses or {})

    def __missing__(self, name: str) -> Estimate:
        raise KeyError(f"{name} was left out: {self.left_out[name]}" if name in self.left_out else name)

    @property
    def gradient_times(self) -> float:
        """Cost of everything."""
        return sum(cost.gradient_times or 0.0 for cost in self._costs)

    @property
    def seconds(self) -> float:
        """Time of everything."""
        return sum(cost.seconds or 0.0 for cost in self._costs)

    def alone(self, name: str) -> float:
        """Cost of one metric by itself, in gradient-times: with all of the shared work that it stands on."""
        below = (self.shared.get(what, self.get(what)) for what in self.uses.get(name, ()))
        return sum(part.gradient_times or 0.0 for part in (self[name], *below) if part is not None)

    def rows(self) -> list[dict[str, Any]]:
        """One row a number, then one for each piece of shared work: metric, value, stderr, gradient_times, share, ...

        A metric of several numbers has one row each, name[0], name[1], ...; its cost is in the first. `converged` is
        True or False for an iteration that ends when it has, an ascent or a Lanczos run; else None. `alone` is the
        cost of a metric by itself, shared work in it.
        """
        rows = [row for name, estimate in self.items() for row in self._of(name, estimate)]
        return rows + [self._row(f"{SHARED}{what}", None, None, spent, "") for what, spent in self.shared.items()]

    def to_csv(self, path: str | Path) -> Path:
        """Write `rows` as a table with a header; returns the path."""
        return write_rows(path, self.rows(), HEADS)

    def to_json(self, path: str | Path, **manifest: Any) -> Path:
        """Write rows, details, what was left out, versions, and `manifest`; returns the path."""
        target = Path(path)
        details = {name: dict(estimate.details) for name, estimate in self.items()}
        write_json(
            target,
            {"rows": self.rows(), "details": details, "left_out": self.left_out, "versions": versions(), **manifest},
        )
        return target

    def __str__(self) -> str:
        """An aligned table with the share of each row in the cost, its sum, and what was left out."""
        return "\n".join([*aligned(self._preview(), left=(0, -1)), *self._notes()])

    __repr__ = __str__

    def _facts(self) -> dict[str, Any]:
        return {"": f"{len(self)} metrics"}

    def _columns(self) -> dict[str, list[Any]]:
        rows = self.rows()
        return {head: [row[head] for row in rows] for head in HEADS}

    def _preview(self) -> Lines:
        head = ("metric", "value", "alone", "gradient-times", "share", "s", "data")
        foot = ("in all", "", "", f"{self.gradient_times:.1f}", "", f"{self.seconds:.1f}", "")
        return [head, *(_shown(row) for row in self.rows()), foot]

    def _notes(self) -> list[str]:
        notes = [f"{OPEN} has not converged: give it more steps or products"] if self.not_converged else []
        notes += ["alone: gradient-times of a metric by itself, shared work in it"] if any(self.uses.values()) else []
        notes += [f"left out {name}: {reason}" for name, reason in self.left_out.items()]
        if self.verified is not None:
            said = "decided by none" if isnan(self.verified) else f"off by {self.verified:.1g} at most"
            notes.insert(0, f"products held against differences of gradients or outputs: {said}")
        return notes

    @property
    def not_converged(self) -> list[str]:
        """Metrics whose iteration ended at its cap: an ascent's value is then a lower bound of where it was going."""
        return [name for name, estimate in self.items() if estimate.converged is False]

    @property
    def verified(self) -> float | None:
        """Largest disagreement of the operators inside with differences; NaN where one of them is not decided."""
        found = [each.details["verified"] for each in self.values() if "verified" in each.details]
        found += [each.verified for each in self.shared.values() if each.verified is not None]
        return (float("nan") if any(map(isnan, found)) else max(found)) if found else None

    @property
    def _costs(self) -> list[Estimate | Spent]:
        return [*self.values(), *self.shared.values()]

    def _of(self, name: str, estimate: Estimate) -> list[dict[str, Any]]:
        values, errors = estimate.value.reshape(-1).tolist(), estimate.stderr.reshape(-1).tolist()
        names = [name] if len(values) == 1 else [f"{name}[{index}]" for index in range(len(values))]
        free = Spent(0.0, 0.0)
        return [
            self._row(each, value, error, estimate if index == 0 else free, estimate.data, estimate.converged)
            | {"alone": self.alone(name) if index == 0 else 0.0}
            for index, (each, value, error) in enumerate(zip(names, values, errors, strict=True))
        ]

    def _row(
        self,
        name: str,
        value: float | None,
        stderr: float | None,
        cost: Estimate | Spent,
        data: str,
        converged: bool | None = None,
    ) -> dict[str, Any]:
        spent, total = cost.gradient_times or 0.0, self.gradient_times
        content = (
            name,
            value,
            stderr,
            spent,
            spent / total if total else 0.0,
            cost.seconds or 0.0,
            data,
            converged,
            None,
        )
        return dict(zip(HEADS, content, strict=True))


def _shown(row: Mapping[str, Any]) -> tuple[str, ...]:
    value = "" if row["value"] is None else f"{row['value']:.6g}"
    error = f" ± {row['stderr']:.2g}" if row["stderr"] else ""
    error += f" {OPEN}" if row["converged"] is False else ""
    alone = "" if row["alone"] is None else f"{row['alone']:.1f}"
    cost = (alone, f"{row['gradient_times']:.1f}", f"{row['share']:.1%}", f"{row['seconds']:.1f}")
    return row["metric"], value + error, *cost, row["data"]
