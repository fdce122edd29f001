"""Which way to a Hessian product: measured on one batch, because it depends on the network and the machine.

Only for batches whose graph is not kept: from a kept one a double backward costs two gradients, the least there is.
From scratch it costs about three, and forward over reverse between two and four. Where neither exists, differences of
gradients do.
"""

from collections.abc import Callable
from time import perf_counter

import torch

from landscape.curvature.double_backward import double_backward
from landscape.curvature.forward_over_reverse import forward_over_reverse
from landscape.curvature.kept_graphs import Product
from landscape.program import Batch, gradient_of
from landscape.vectors import Block

CLEARLY = 0.75  # forward over reverse must be this much faster: the choice should not hang on noise
REPEATS = 2
LONG = 0.05  # seconds; below, the clock measures the machine's other work, and the same call should choose the same


def chosen(batch: Batch) -> tuple[str, str]:
    """The mode for batches like this one, from scratch, and why."""
    probe = batch.w.cos()[:, None]
    twice, why = _seconds(lambda: double_backward(batch.afresh(), once=True), probe)
    if twice is not None and twice < LONG:
        return "double_backward", f"a product of one batch takes {twice:.2g} s, too short to compare"
    forward, other = _seconds(lambda: forward_over_reverse(batch), probe)
    if twice is None and forward is None:
        leaf = batch.w.clone().requires_grad_()
        gradient_of(batch.afresh().loss(leaf), leaf)  # raises what is wrong with the first derivative already
        return "central_differences", f"no second derivative: {why}"
    if forward is None or (twice is not None and forward > CLEARLY * twice):
        measured = f"{other}" if forward is None else f"{forward:.2g} s"
        return "double_backward", f"a product of one batch takes {twice:.2g} s, by forward_over_reverse: {measured}"
    measured = f"{why}" if twice is None else f"{twice:.2g} s"
    return "forward_over_reverse", f"a product of one batch takes {forward:.2g} s, by double_backward: {measured}"


def _seconds(product: Callable[[], Product], probe: Block) -> tuple[float | None, str]:
    """The shortest time of a product, or None and what torch said."""
    times = []
    try:
        for _ in range(REPEATS):
            start = perf_counter()
            product()(probe).sum().item()  # waits for a device that works on its own
            times.append(perf_counter() - start)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        return None, str(error).splitlines()[0]
    return min(times), ""
