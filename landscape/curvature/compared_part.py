"""What of a batch is held against differences: all of it or a few rows, all parameters or some, in which precision.

Differences are taken in float64, so that even networks of rectifiers are smooth between the points: where calls weigh
more than arithmetic, of the batch as it is; else of a few of its rows, for which the product is made once more. Where
neither can be done, the batch in its own precision. Of a network whose weights outweigh its rows only some are moved.
"""

from dataclasses import replace
from itertools import islice
from math import prod

import torch
from torch import Tensor

from landscape.problem.batch import Batch
from landscape.problem.batches import tensors_of
from landscape.problem.placement import graph_nodes

SHARE = 8  # of a batch's rows, one in so many is compared
SMALL_CALL = 2**13  # entries that an operation takes about as long for as for being called; measured on a CPU
NODES = 256  # of a graph that are looked at for it
PRODUCTS = 16  # of a row with a weight take about as long as writing an entry
LARGE = 2**22  # parameters that are moved: of a larger network some, the small ones first, in memory of their own size
FEW_UNITS, LARGE_FOR_FEW = 128, 2**16  # where a weight is used less often, copies of it cost more than using it
LARGEST = 2**25  # parameters: beyond, a copy in float64 would take more memory than a product


def places(batch: Batch) -> list[tuple[Batch, bool]]:
    """Where to compare before the batch as it is: all of it or a part, and whether differences are in float64."""
    part = _few_rows(batch)
    if batch.placement.size > LARGEST:
        return [] if part is None else [(part, False)]
    if _calls_outweigh(batch):
        return [(batch, True)]
    if part is None:
        return []
    return [(part, True)] if batch.w.is_cuda else [(part, True), (batch, True)]


def _calls_outweigh(batch: Batch) -> bool:
    """Whether operations are so small that a network takes as long for few rows as for many, or in float64."""
    products = len(batch) * batch.placement.size / PRODUCTS  # at least: a convolution uses a weight more often
    if products > SMALL_CALL * NODES:
        return False
    loss = batch.loss(batch.w.detach().clone().requires_grad_())
    nodes = islice(graph_nodes(loss.grad_fn), NODES)
    shapes = [meta.shape for node in nodes for meta in node._input_metadata]
    sizes = [prod(n for n in shape if isinstance(n, int)) for shape in shapes]  # a jagged length is no number
    return products + sum(sizes) < SMALL_CALL * len(sizes)


def in_full(batch: Batch) -> Batch:
    """The batch in float64; of one that is a function of some parameters the others too, once."""
    wide, whole = batch.in_precision(torch.float64), batch.whole
    return wide if whole is None else replace(wide, whole=replace(whole, w=whole.w.double()))


def room(batch: Batch) -> int:
    """How many parameters are moved."""
    return LARGE if max(batch.units, len(batch)) >= FEW_UNITS else LARGE_FOR_FEW


def some_parameters(batch: Batch, v: Tensor) -> tuple[Batch, Tensor]:
    """The batch as a function of its smaller parameters, as many as there is room for, and v on these, or ones."""
    sizes, left = batch.layout.sizes, room(batch)
    places: list[int] = []
    for place in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        left -= sizes[place]
        if left < 0 and places:
            break
        places.append(place)
    places.sort()
    pieces = v.split(sizes)
    part = torch.cat([pieces[i] for i in places])
    return batch.of_some(places), part if part.any() else torch.ones_like(part)


def _few_rows(batch: Batch) -> Batch | None:
    """A share of the rows as a batch of its own, if all tensors are lists of samples and it is cheap."""
    rows, native = max(1, len(batch) // SHARE), batch.placement.size > LARGEST
    tensors = tensors_of((batch.inputs, batch.targets))
    alike = all(t.layout == torch.strided and t.ndim > 0 and len(t) == len(batch) for t in tensors)
    indices = any(not t.is_floating_point() for t in tensors_of(batch.inputs))  # of other rows, out of range, on a GPU
    if not alike or (2 if native else 3) * rows > len(batch) or (indices and batch.w.is_cuda):
        return None
    return batch.rows(0, rows, batch.units * rows / len(batch))
