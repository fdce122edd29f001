"""How often a metric orders two networks wrongly, in the worst single change of a hyper-parameter.

An environment is a pair of settings that differ in one hyper-parameter; each network of the one is compared with each
of the other, so that all seeds are paired. Its sign error is Σ w ½(1 − sign Δμ sign Δg) / Σ w over the pairs,
w = (p − ½)₊ with p = max(0, 1 − 2 exp(−2n(Δ/2)²))², Δ = |Δg| and n the test samples: a pair whose difference the test
set does not resolve does not count. Environments of an effective sample size (Σ w)² / Σ w² below 12 are left out. The
robust error is the largest of those that stay, so that chance is not ½: it is what exchanged gaps give.
Source: Dziugaite et al. 2020, "In search of robust measures of generalization", arXiv:2010.11924, sections 3 and 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscape.study.statistics.kendall import Array, Codes

LEAST = 12  # effective pairs of an environment
AT_ONCE = 2_000_000  # pairs times gaps in memory


@dataclass(frozen=True)
class Environments:
    """Pairs of networks, environment after environment."""

    i: Codes  # (pairs,)
    j: Codes
    starts: Codes  # (environments,) where each begins


def environments(axes: Sequence[Codes], count: int) -> Environments:
    """All pairs of settings that differ in one hyper-parameter.

    Args:
        axes: of each hyper-parameter that one changes, the number of the value that each network has, (count,). The
            seed is none: networks that agree in all axes are of one setting.
        count: networks.
    """
    i, j = np.triu_indices(count, 1)
    values = np.stack([np.zeros(count, dtype=np.int64), *axes])
    alone = (values[:, i] != values[:, j]).sum(0) == 1
    i, j = i[alone], j[alone]
    setting = np.unique(values, axis=1, return_inverse=True)[1]
    ends = np.sort(np.stack([setting[i], setting[j]]), axis=0)
    number = ends[0] * (setting.max(initial=0) + 1) + ends[1]
    order = np.argsort(number, kind="stable")
    starts = np.unique(number[order], return_index=True)[1]
    return Environments(i[order], j[order], starts)


def robust_sign_error(x: Array, gaps: Array, among: Environments, samples: int | None) -> Array:
    """The largest sign error over the environments for each of B gaps, (B, n) to (B,), in [0, 1].

    Args:
        x: the metric, (n,); NaN where a network lacks it.
        gaps: (B, n); gaps in error, in [0, 1], where `samples` is given: Hoeffding's bound holds for nothing else.
        among: the environments.
        samples: n of the weights; None: every pair counts as 1.
    Returns:
        The errors; NaN where no environment has pairs enough.
    """
    if not len(among.starts):
        return np.full(len(gaps), np.nan)
    parts = np.array_split(gaps, -(-len(gaps) * len(among.i) // AT_ONCE))
    return np.concatenate([_largest(x, part, among, samples) for part in parts])


def _largest(x: Array, gaps: Array, among: Environments, samples: int | None) -> Array:
    ordered = np.sign(x[among.i] - x[among.j])  # NaN where the metric is not known
    change = gaps[:, among.i] - gaps[:, among.j]
    w = weights(np.abs(change), samples) * np.isfinite(ordered)
    wrong = w * (1 - np.nan_to_num(ordered) * np.sign(change)) / 2
    total, squares, error = (np.add.reduceat(each, among.starts, axis=1) for each in (w, w**2, wrong))
    enough = (total > 0) & (total**2 > (LEAST - 1e-9) * squares)
    largest = np.divide(error, total, out=np.full_like(total, -1.0), where=enough).max(1)
    return np.where(largest < 0, np.nan, largest)


def weights(difference: Array, samples: int | None) -> NDArray[np.float64]:
    """(max(0, 1 − 2 exp(−2n(Δ/2)²))² − ½)₊ of each difference Δ in error; 1 where `samples` is None."""
    if samples is None:
        return np.ones_like(difference)
    resolved = np.maximum(0, 1 - 2 * np.exp(-samples * difference**2 / 2)) ** 2
    return np.maximum(0, resolved - 0.5)
