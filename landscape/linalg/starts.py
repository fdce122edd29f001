"""Starting vectors of the caller's, such as eigenvectors of a nearby operator."""

import torch
from torch import Tensor

from landscape.checks import require, vector_like
from landscape.linalg.operator import CurvatureOperator
from landscape.processes.space import Space


def checked_starts(start: Tensor | None, operator: CurvatureOperator) -> Tensor | None:
    """The caller's starting vectors as rows (j, P)."""
    if start is None:
        return None
    like = torch.empty(operator.space.own, dtype=operator.dtype, device=operator.device)
    block = start[:, None] if isinstance(start, Tensor) and start.ndim == 1 else start
    several = isinstance(start, Tensor) and start.ndim == 2 and 0 < start.shape[1] <= operator.shape[0]
    vector_like("start", start[:, 0] if several else start, like)
    norms = operator.space.norms(block)
    require(bool((norms > 0).all()) and bool(norms.isfinite().all()), "start must be finite and not zero; leave it out")
    return block.T


def together(starts: Tensor, count: int, faint: float, source: torch.Generator, space: Space) -> Tensor:
    """`count` vectors that hold all of `starts` (j, P) and, weakly, everything else, (count, P).

    One sum of many eigenvectors gives all of them after as many products; each by itself would need its own.
    """
    signs = torch.randn(count, len(starts), generator=source, dtype=torch.float64, device=source.device).sign()
    signs = torch.where(torch.arange(count, device=signs.device)[:, None] == 0, torch.ones_like(signs), signs)
    rest = space.normal(count, source)
    directions = starts / space.norms(starts, 1)[:, None]
    mixed = signs.to(starts) @ directions
    length = space.norms(mixed, 1)[:, None].clamp_min(torch.finfo(mixed.dtype).eps)  # opposite starts cancel
    return mixed / length + faint * (rest / space.norms(rest, 1)[:, None]).to(starts)
