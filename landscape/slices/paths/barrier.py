"""The height of the barrier between two networks, along a line or a curve.

max over t of L(t) − [(1 − t) L(0) + t L(1)]: how far the loss rises above the straight interpolation of its ends. Never
negative, as it is 0 at the ends. Source: Entezari et al. 2022, "The role of permutation invariance in linear mode
connectivity", definition 2.1, arXiv:2110.06296; Frankle et al. 2020, arXiv:1912.05671, measure from the mean of the
ends.
"""

from dataclasses import dataclass
from typing import Any

import torch

from landscape.checks import one_of, require
from landscape.storage.results import Slice1D
from landscape.storage.results.shown import Shown


@dataclass(frozen=True, repr=False)
class Barrier(Shown):
    """How far the loss rises between two networks, and where."""

    height: float  # in units of the loss; NaN where the loss is, infinite where it is
    at: float  # t in [0, 1]

    def _facts(self) -> dict[str, Any]:
        return {"height": self.height, "at": self.at}


def barrier(line: Slice1D, split: str = "train") -> Barrier:
    """The barrier between the networks at x = 0 and x = 1.

    Args:
        line: of `path_losses`, or of `slice_1d` along `direction_to`, whose grid holds 0 and 1; what lies outside of
            [0, 1] is not looked at.
        split: whose loss.
    Raises:
        ValueError: if the split is unknown, or the grid lacks 0 or 1.
    """
    one_of("split", split, tuple(line.loss))
    inside = (line.x >= 0) & (line.x <= 1)
    t, loss = line.x[inside].double(), line.loss[split][inside].double()
    require(
        len(t) > 1 and float(t[0]) == 0 and float(t[-1]) == 1,
        f"the grid must hold 0 and 1, got {line.x[0]:.4g} to {line.x[-1]:.4g} in {len(line.x)} points",
    )
    rise = loss - torch.lerp(loss[0], loss[-1], t)
    highest = int(rise.argmax())  # a NaN is the maximum
    return Barrier(float(rise[highest]), float(t[highest]))
