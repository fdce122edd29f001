"""Many metrics at a glance: psi along each hyper-parameter, and the rank of each metric by each criterion."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from landscape.checks import require
from landscape.plots.style import HATCH, SMALL, axes_or_new, words

Values = NDArray[np.float64]


@runtime_checkable
class Judged(Protocol):
    """A metric's correlation with the gap by several criteria, such as `correlate` gives."""

    @property
    def tau(self) -> float: ...
    @property
    def psi(self) -> Mapping[str, float]: ...
    @property
    def psi_mean(self) -> float: ...
    @property
    def information(self) -> float: ...
    @property
    def sign_error(self) -> float: ...
    @property
    def partial(self) -> float: ...


def plot_psi(correlations: Mapping[str, Judged], ax: Axes | None = None) -> Axes:
    """Heat map of psi: a row a metric, the largest mean on top, a column a hyper-parameter, the mean last.

    Args:
        correlations: metric to its correlation; all have the same axes.
        ax: where to draw; default a new figure as large as needed.
    Raises:
        ValueError: if there is no metric.
    """
    require(len(correlations) > 0, "correlations must hold at least one metric, got none")
    order = sorted(correlations, key=lambda name: np.nan_to_num(correlations[name].psi_mean, nan=-2.0), reverse=True)
    columns = [*correlations[order[0]].psi, "mean"]
    values = np.array([[*correlations[name].psi.values(), correlations[name].psi_mean] for name in order])
    ax = axes_or_new(ax, width=2.8 + 0.55 * len(columns), height=1.1 + 0.2 * len(order))
    _cells(ax, values, order, columns, "+.2f", cmap="RdBu_r", vmin=-1, vmax=1)
    ax.axvline(len(columns) - 1.5, color="black", linewidth=0.8)
    ax.set_title("ψ with the gap, along one setting", fontsize=SMALL + 1)
    return ax


def plot_ranks(correlations: Mapping[str, Judged], ax: Axes | None = None) -> Axes:
    """Rank of every metric by each criterion, 1 the best, the best mean rank on top.

    Criteria: |tau|, |mean psi|, K, |partial correlation|, robust sign error (the lower the better).

    Args:
        correlations: metric to its correlation; NaN has no rank.
        ax: where to draw; default a new figure as large as needed.
    Raises:
        ValueError: if there is no metric.
    """
    require(len(correlations) > 0, "correlations must hold at least one metric, got none")
    criteria = {
        "|τ|": [abs(each.tau) for each in correlations.values()],
        "|Ψ|": [abs(each.psi_mean) for each in correlations.values()],
        "K": [each.information for each in correlations.values()],
        "|partial|": [abs(each.partial) for each in correlations.values()],
        "sign error": [-each.sign_error for each in correlations.values()],
    }
    ranks = np.stack([_ranks(np.array(values)) for values in criteria.values()], axis=1)  # (metrics, criteria)
    known = np.isfinite(ranks)
    mean = np.divide(np.nansum(ranks, 1), known.sum(1), out=np.full(len(ranks), np.inf), where=known.any(1))
    order, names = np.argsort(mean, kind="stable"), list(correlations)
    ax = axes_or_new(ax, width=2.8 + 0.55 * len(criteria), height=1.1 + 0.2 * len(order))
    shown = [names[index] for index in order]
    _cells(ax, ranks[order], shown, list(criteria), ".3g", cmap="cividis_r", vmin=1, vmax=max(2, len(order)))
    ax.set_title("rank among the metrics", fontsize=SMALL + 1)
    return ax


def _cells(ax: Axes, values: Values, rows: Sequence[str], columns: Sequence[str], text: str, **colors: Any) -> None:
    """Coloured cells with their numbers; hatched where there is none, which a legend says."""
    ax.patch.set(**HATCH)
    if not np.isfinite(values).all():
        ax.legend(
            handles=[Patch(label="no value", **HATCH)],
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            fontsize=SMALL,
            frameon=False,
        )
    image = ax.imshow(np.ma.masked_invalid(values), aspect="auto", **colors)
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            red, green, blue, _ = image.to_rgba(np.array(value))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            ax.text(x, y, format(value, text), ha="center", va="center", fontsize=6.5, color="w" if dark else "k")
    ax.set_xticks(range(len(columns)), [words(name) for name in columns], rotation=35, ha="right", fontsize=SMALL)
    ax.set_yticks(range(len(rows)), [words(name) for name in rows], fontsize=SMALL)
    ax.tick_params(length=0)


def _ranks(values: Values) -> Values:
    """1 for the largest, equal ones share the mean; NaN stays."""
    above = (values[None, :] > values[:, None]).sum(1)
    level = (values[None, :] == values[:, None]).sum(1)
    return np.where(np.isfinite(values), 1 + above + (level - 1) / 2, np.nan)
