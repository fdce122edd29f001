"""How often a metric orders two networks wrongly, in the worst single change of a hyper-parameter.

An environment is a hyper-parameter going from one value to another, the rest as it was. Its sign error is
Σ w ½(1 − sign Δμ sign Δg) / Σ w over its pairs, w = max(0, 1 − 2 exp(−2n(Δ/2)²))², Δ = |Δg| and n the test samples: a
pair whose difference the test set does not resolve does not count.
Source: Dziugaite et al. 2020, "In search of robust measures of generalization", arXiv:2010.11924, sections 3 and 5.
"""

from collections.abc import Sequence

import numpy as np

from landscape.study.statistics.kendall import Array, Signs
from landscape.study.statistics.resampling import Codes


def robust_sign_error(
    s: Signs, gap: Array, axes: Sequence[Codes], changed: Sequence[int], samples: int | None
) -> float:
    """The largest sign error over the environments, in [0, 1]: 0.5 is what chance gives.

    Args:
        s: signs of the differences in the metric, (n, n).
        gap: (n,); a gap in error, in [0, 1], where `samples` is given: Hoeffding's bound holds for nothing else.
        axes: of each hyper-parameter, the number of the value that each network has, (n,).
        changed: which of the axes are hyper-parameters that one changes; in the others (the seed) a pair agrees.
        samples: n of the weights; None: every pair counts as 1.
    Returns:
        The error; NaN where no pair differs in one hyper-parameter alone and counts.
    """
    i, j = np.triu_indices(len(gap), 1)
    wrong = (1 - s[i, j] * np.sign(gap[i] - gap[j])) / 2
    weight = weights(np.abs(gap[i] - gap[j]), samples)
    differ = np.stack([axis[i] != axis[j] for axis in axes]) if axes else np.zeros((0, len(i)), dtype=bool)
    errors = []
    for axis in changed:
        alone = differ[axis] & (differ.sum(0) == 1) & (weight > 0)
        ends = np.sort(np.stack([axes[axis][i], axes[axis][j]])[:, alone], axis=0)
        for environment in np.unique(ends, axis=1).T:
            own = (ends == environment[:, None]).all(0)
            errors.append(float(np.average(wrong[alone][own], weights=weight[alone][own])))
    return max(errors, default=float("nan"))


def weights(difference: Array, samples: int | None) -> Array:
    """max(0, 1 − 2 exp(−2n(Δ/2)²))² of each difference Δ in error; 1 where `samples` is None."""
    if samples is None:
        return np.ones_like(difference)
    resolved: Array = np.maximum(0, 1 - 2 * np.exp(-samples * difference**2 / 2)) ** 2
    return resolved
