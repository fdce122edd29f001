"""What `Problem` asks of a sharded model in one pass: means of numbers, and the gradient of the mean loss.

All processes make the same passes whatever data they hold, and what decides is a sum over all of them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from landscape.checks import require
from landscape.problem.batch import Batch
from landscape.problem.cost import GRADIENT, charge
from landscape.problem.placement import coarsest, graph_nodes
from landscape.problem.shards import NO_GRAPH, Shards, gradients_apart, mean_gradients
from landscape.processes import WeightedSum, summed
from landscape.vectors import whole

if TYPE_CHECKING:
    from landscape.problem.passes import Passes


def mean_in_step(problem: "Passes", term: Callable[[Batch], Tensor], w: Tensor, cost: float) -> Tensor:
    """Σ_b u_b term(b) / Σ_b u_b over all processes' batches; of numbers alone."""
    sums = WeightedSum()
    with problem.batches_at(w, False, {}) as batches:
        for batch in batches:
            found = whole(term(batch) if batch.units > 0 else batch.evaluate(batch.w)[0])
            require(found.ndim == 0, NO_GRAPH)
            if batch.units > 0:
                sums.add(found, batch.units)
                charge(batch.units * cost)
    return _mean(sums, problem, w)


def loss_and_gradient(problem: "Passes", shards: Shards, w: Tensor) -> tuple[Tensor, Tensor]:
    """Loss () and the own entries of its gradient (own,) at w; NaN and infinity stay."""
    sums, scale = WeightedSum(), 0.0
    with gradients_apart(problem.model):
        with problem.batches_at(w, False, {}) as batches, torch.enable_grad():
            for batch in batches:
                scale = scale or shards.units
                loss = batch.evaluate(batch.w)[0]
                if shards.precisions is None:
                    shards.precisions = batch.inner_precision(loss), _of_weights(batch, loss)
                (loss * (batch.units * shards.count / scale)).backward()
                if batch.units > 0:
                    sums.add(whole(loss.detach()), batch.units)
                    charge(batch.units * GRADIENT)
        g = mean_gradients(shards)
    loss = _mean(sums, problem, w)
    return loss, g * (scale / sums.units)


def _of_weights(batch: Batch, loss: Tensor) -> torch.dtype:
    """The coarsest precision that weights are used in, by FSDP2's policy or a cast such as autocast's."""
    found = [batch.precision]
    for node in graph_nodes(loss.grad_fn):
        for leaf in (following.variable for following, _ in node.next_functions if hasattr(following, "variable")):
            cast = node._input_metadata if node.name().startswith("ToCopy") else ()
            found += [leaf.dtype, *(meta.dtype for meta in cast)]
    return coarsest(found)


def _mean(sums: WeightedSum, problem: "Passes", w: Tensor) -> Tensor:
    own = sums.total, sums.units
    sums.total, sums.units = summed(lambda: own, (), w.device, problem.process_group)
    return sums.mean().to(w.dtype)
