"""The derivative that two values give, D(h) = (f(h) − f(−h)) / 2h = f'(0) + O(h²)."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

Step = TypeVar("Step", float, Tensor)


def central_difference(f: Callable[[Step], Tensor], h: Step) -> tuple[Tensor, Tensor, Tensor]:
    """D(h), f(h) and f(−h), each shaped as f; h > 0."""
    ahead, behind = f(h), f(-h)
    return (ahead - behind) / (2 * h), ahead, behind
