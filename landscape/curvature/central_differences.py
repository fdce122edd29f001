"""Products from first derivatives alone, for models without second ones: four gradients a Hessian product.

With u = v/|v| and D(h) = (f(w + hu) − f(w − hu)) / 2h, one step of Richardson's extrapolation,
f'(w) u = (4 D(h/2) − D(h)) / 3 + O(h⁴). The length of v does not enter the step, so that a ±1 probe of length sqrt(P)
moves the weights no further than a unit vector. The error is estimated by 2 |D(h/2) − D(h)|, which is above the
truncation error, being the part that the extrapolation removes, and by what rounding may do: ε |f| / h to the values,
and ε |w| / h, relative, to the move itself. A step moves the weights by several units in the last place at least.

On a CPU the network is evaluated in float64, up to 2^25 parameters, where there are fewer kinks between the two points;
elsewhere in float32 at least: half precision would round away what a difference is made of.
Source: Richardson 1911, "The approximate arithmetical solution by finite differences"; Ridders 1982.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from landscape.autograd.central_difference import central_difference
from landscape.curvature.methods import Manner, Product
from landscape.problem.batch import Batch
from landscape.vectors import Block, Vector

STEPS = 6  # candidates, each a quarter of the one before
ORDER = 5  # truncation h⁴ and rounding eps/h balance at h = eps^(1/5)
LARGEST = 2**25  # parameters that fit in float64 beside the network
FEWEST_ULP = 8  # units in the last place that a step moves the weights by

Function = Callable[[Batch, Vector], Tensor]


class Differences:
    """Directional derivatives of a function of w, all of one operator with one step."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._step: float | None = None
        self._eps = 0.0

    def __call__(self, batch: Batch, v: Vector) -> tuple[Tensor, Tensor]:
        """f'(w) v, shaped as f, and its estimated error, ()."""
        if self._step is None:
            self._step = self._best_step(batch)
        return self._extrapolated(batch, v, self._step)

    def _best_step(self, batch: Batch) -> float:
        """The step with the smallest estimated error for one vector, from eps^(1/5) (1 + |w|) downwards."""
        eps, length = torch.finfo(batch.inner_precision()).eps, float(batch.w.norm())
        self._eps = eps
        largest = eps ** (1 / ORDER) * (1 + length)
        steps = [largest / 4**i for i in range(STEPS)]
        steps = [step for step in steps if step >= FEWEST_ULP * eps * length] or [largest]
        errors = [float(self._extrapolated(batch, batch.w.detach().cos(), step)[1]) for step in steps]
        return steps[min(range(len(steps)), key=lambda i: errors[i] if errors[i] >= 0 else float("inf"))]

    def _extrapolated(self, batch: Batch, v: Vector, step: float) -> tuple[Tensor, Tensor]:
        length = v.norm()
        u = v / length if length > 0 else v
        (wide, _), (narrow, size) = (self._difference(batch, u, h) for h in (step, step / 2))
        rounding = self._eps / step * (size + batch.w.norm() * narrow.norm())
        return length * (4 * narrow - wide) / 3, length * (2 * (narrow - wide).norm() + rounding)

    def _difference(self, batch: Batch, u: Vector, h: float) -> tuple[Tensor, Tensor]:
        """D(h), and the size of the values, ()."""
        difference, ahead, behind = central_difference(lambda t: self.function(batch, batch.w.detach() + t * u), h)
        return difference, ahead.norm().maximum(behind.norm())


def in_full(batch: Batch) -> Batch:
    """The batch in the precision that differences are taken in, if it can be evaluated so, else in its own."""
    wanted = torch.float64 if batch.w.numel() <= LARGEST and not batch.w.is_cuda else torch.float32
    if torch.finfo(batch.precision).eps <= torch.finfo(wanted).eps:
        return batch
    wide = batch.in_precision(wanted)
    try:
        wide.gradient(wide.w)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError):
        return batch
    return wide


def central_differences(batch: Batch, manner: Manner, *, differences: Differences) -> Product:
    """The batch's Hessian, whose columns are derivatives of the gradient."""
    wide = in_full(batch)

    def product(block: Block) -> Block:
        columns, errors = zip(*(differences(wide, v.to(wide.w)) for v in block.T), strict=True)
        image = torch.stack(columns, dim=1).to(block)
        rounding = torch.finfo(block.dtype).eps * image.norm(dim=0)
        manner.note(batch.units, torch.stack(errors).to(block) + rounding)
        return image

    return product
