"""Leading eigenvalues and trace of every diagonal block of the Hessian, all blocks in shared passes over the data.

Separate runs read the data and build its first-order graphs once a product of each block. Here the Lanczos and trace
runs of all blocks go in lockstep: a pass builds a batch's graph once and takes one backward a block from it.
Source: Chen, Hsieh and Gong 2022, "When vision transformers outperform ResNets without pre-training or strong data
augmentations", arXiv:2106.01548, Table 3: lambda_max of the embedding, attention, MLP, single blocks and the whole.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, positive
from landscape.curvature.blocks import Grouping, direct_sum, grouped
from landscape.curvature.hessian import hessian
from landscape.linalg import top_eigenpairs, trace
from landscape.linalg.lockstep import Task, lockstep
from landscape.linalg.products_shown import bar_of
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.storage.results import BlockSpectra


def block_spectra(
    problem: Problem,
    by: Grouping = "layer",
    *,
    depth: int = 1,
    k: int = 1,
    which: str = "LA",
    tol: float = 1e-3,
    max_matvecs: int | None = None,
    trace_matvecs: int = 30,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> BlockSpectra:
    """Spectra of the Hessian's diagonal blocks.

    Args:
        problem: the scalar function.
        by, depth: which blocks, as in `hessian_blocks`; {"head": "head.*", "whole": "*"} sets a part beside the whole.
        k: eigenpairs a block; a smaller block gives all it has.
        which, tol, max_matvecs: of `top_eigenpairs`, a block.
        trace_matvecs: products for the trace of a block, at least 4; exact for blocks of at most so many parameters.
        generator: each run gets a seed from it; default seed 0.
        progress: show a bar of passes over the data; default on a terminal and in a notebook, else a line every 30 s.
    Returns:
        BlockSpectra: per block k eigenvalues with residuals, and the trace with its standard error.
    Raises:
        ValueError: if an argument is out of range, a pattern matches nothing, or the loss is NaN or infinite.
    """
    integer_in("k", k, 1)
    one_of("which", which, ("LM", "LA", "SA"))
    positive("tol", tol)
    integer_in("trace_matvecs", trace_matvecs, 4)
    groups = grouped(problem, by, depth=depth)
    sizes = [problem.restricted_to(names).size for names in groups.values()]
    source = random_source(generator)
    seeds = torch.randint(2**62, (2, len(groups)), generator=source, device=source.device).tolist()
    top = partial(top_eigenpairs, which=which, tol=tol, max_matvecs=max_matvecs, progress=False)
    traced = partial(trace, matvecs=trace_matvecs, progress=False)
    tasks: list[Task] = [
        *((i, partial(top, k=min(k, size), generator=_seeded(seeds[0][i]))) for i, size in enumerate(sizes)),
        *((i, partial(traced, generator=_seeded(seeds[1][i]))) for i in range(len(groups))),
    ]
    with bar_of(None, "pass", progress) as bar:
        found, passes = _all_done(problem, groups, sizes, tasks, bar.update)
    pairs, traces = found[: len(groups)], found[len(groups) :]
    return BlockSpectra(
        names=list(groups),
        sizes=torch.tensor(sizes, device="cpu"),
        values=torch.stack([_padded(own.values, k) for own in pairs]),
        residuals=torch.stack([_padded(own.residuals, k) for own in pairs]),
        converged=torch.stack([_padded(own.converged, k) == 1 for own in pairs]),
        trace=torch.stack([own.value for own in traces]),
        trace_stderr=torch.stack([own.stderr for own in traces]),
        matvecs=torch.tensor(
            [own.matvecs + other.matvecs for own, other in zip(pairs, traces, strict=True)], device="cpu"
        ),
        passes=passes,
    )


def _all_done(
    problem: Problem,
    groups: Mapping[str, Sequence[str]],
    sizes: Sequence[int],
    tasks: Sequence[Task],
    told: Callable[[], object],
) -> tuple[list[Any], int]:
    """What the tasks find, and passes over the data; of a sharded model one after another.

    There nothing is saved by going together, as each product has gradients of its own, and threads that exchange
    messages in different orders would mix them up.
    """
    if problem.shards is None:
        return lockstep(direct_sum(problem, groups), sizes, tasks, told)
    blocks = [hessian(problem.restricted_to(names)) for names in groups.values()]
    found = []
    for place, run in tasks:
        found.append(run(blocks[place]))
        told()
    return found, sum(each.matvecs for each in found)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _padded(row: Tensor, k: int) -> Tensor:
    """(n,) to (k,) in float64 with NaN at the end."""
    return torch.cat([row.double().cpu(), torch.full((k - len(row),), float("nan"), dtype=torch.float64, device="cpu")])
