"""Every operator proves itself once: its first product on one batch against differences.

A matrix from wrong second derivatives is as symmetric as a right one and converges as well; only what the network does
when its weights are moved tells. With u = v/|v| the Hessian's H u is held against (∇L(w + hu) − ∇L(w)) / h, and vᵀGv of
G = JᵀCJ against (Jv)ᵀC(Jv), Jv a difference of outputs and C of the criterion's gradient by the outputs.

The step is as short as the precision allows: with τ the part of |Hu| that rounding may take, h = (ε/τ) max(|w|,
|g|/|Hu|) moves the weights by many units in the last place. Where one point ahead does not bear the product out, the
point behind is taken too, the step is that of the coarsest precision on the way from w to the loss, and what the
difference may be off by is read from its halves, |D₊ − D₋|, which a kink, a jump or a random number between w − hu and
w + hu makes as large as the curvature.

What of a batch is compared says `compared_part`. The price is at most three gradients of a batch.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from landscape.autograd.central_difference import central_difference
from landscape.curvature.causes import repeatable
from landscape.curvature.compared_part import LARGEST, in_full, places, room, some_parameters
from landscape.problem.batch import Batch
from landscape.problem.hidden_states import HiddenStates, as_tensor, of_parameters
from landscape.vectors import Layout, Vector

LONGER, MUCH_LONGER = 10, 1000  # a second step, before an alarm and where rounding may be what is seen
WIDER = 30  # of the step for outputs, whose derivative along v is not known before
LEAST_LENGTH = 1e-3  # of w: a head that starts at 0 is moved too
UNDECIDED = 0.3  # relative error of a difference that decides nothing
ROUNDED = {torch.float64: 1e-6, torch.float32: 3e-3}  # τ, by precision; half precisions .1
TOLERATED = {torch.float64: 1e-4, torch.float32: 2e-2}  # what rounding may do to a product itself; half precisions .3


@dataclass(frozen=True)
class Comparison:
    """A product beside differences.

    Attributes:
        disagreement: relative, |product − difference| / |difference|; None where the difference decides nothing.
        error: of the difference itself, relative.
        tolerance: what rounding in the product's own precision may do.
        why: where nothing is decided.
    """

    disagreement: float | None
    error: float = 0.0
    tolerance: float = 0.0
    why: str = ""

    @property
    def alarm(self) -> bool:
        """Whether the product is wrong."""
        return self.disagreement is not None and self.disagreement > self.tolerance + 3 * self.error

    def __str__(self) -> str:
        if self.disagreement is None:
            return self.why
        said = f"off by {self.disagreement:.2g} from differences, which are off by {self.error:.1g} at most"
        return f"{said}: {self.why}" if self.why else said


Products = Callable[[Batch, Tensor], Tensor]  # of a batch, by the method that is to be verified
Compare = Callable[[Batch, Batch, Tensor, Tensor], Comparison]  # where the product is; where differences are taken
Note = Callable[[Layout, Tensor, Tensor], None]
Careful = Callable[[float], tuple[Comparison, Tensor]]  # a step to the comparison and the difference
OutputCurvature = Callable[[Batch, Any], Callable[[Tensor], Tensor]]


def verified(
    batch: Batch, v: Tensor, image: Tensor | None, product: Products, compare: Compare, *, some: bool = True
) -> Comparison:
    """The product beside differences, in float64 where that can be done.

    Args:
        batch: one of the data.
        v, image: a vector (P,) and the product with it; None where none was made.
        product: makes it.
        compare: the differences.
        some: the product can be asked of a batch as a function of some parameters, which a large network is.
    """
    if some and batch.w.numel() > room(batch):
        (batch, v), image = some_parameters(batch, v), None
    for at, wide in places(batch):
        with suppress(RuntimeError, ValueError, TypeError, LookupError, AssertionError):
            # whatever rows or float64 do to a network: the batch as it is is left
            own = product(at, v) if image is None or at is not batch else image
            if at is batch or (own.any() and own.isfinite().all()):
                full = in_full(at) if wide else at
                found = _or_rounding(compare(at, full, v, own), at, v, product, compare)
                if found.disagreement is not None or (at is batch and wide):
                    return found
    found = compare(batch, batch, v, product(batch, v) if image is None else image)
    return _or_rounding(found, batch, v, product, compare)


def _or_rounding(found: Comparison, at: Batch, v: Tensor, product: Products, compare: Compare) -> Comparison:
    """No alarm where the same method in float64 agrees with differences there: what is off is rounding alone."""
    if not found.alarm or v.dtype == torch.float64 or at.placement.size > LARGEST:
        return found
    again = found
    with suppress(RuntimeError, ValueError, TypeError):
        wide = in_full(at)
        again = compare(wide, wide, v.double(), product(wide, v.double()))
    if again.disagreement is None:
        return again
    if again.alarm:
        return found
    return replace(found, tolerance=float("inf"), why=f"rounding in {v.dtype}; dtype=torch.float64 is without it")


def require_symmetric(batch: Batch, v: Tensor, image: Tensor, product: Products) -> None:
    """vᵀA(Av) against |Av|²: what double backward, which gives Aᵀv, does not agree with may be no second derivative.

    Raises:
        ValueError: if they differ: then the gradient is not that of a function.
    """
    v, image, again = v.double(), image.double(), product(batch, image).double()
    off, size = float((v @ again - image.square().sum()).abs()), float(v.norm() * again.norm())
    if off > 3 * TOLERATED.get(batch.inner_precision(), 0.3) * size:
        raise ValueError(
            f"batch {batch.index}: the gradient is that of no function, vᵀHw and wᵀHv are off by {off / size:.2g}; the "
            "likely cause is a value that forward detaches, or a gradient that is reversed or passed straight through; "
            "leave out by parameters= what is only detached, or hold it fixed by mode='double_backward', verify=False"
        )


def compare_gradients(
    at: Batch,
    wide: Batch,
    v: Vector,
    image: Tensor,
    rows: Tensor | None = None,
    note: Note = lambda *_: None,
) -> Comparison:
    """H v against a difference of gradients.

    Args:
        at, wide, v, image: as `Compare` has them.
        rows: (n,), only those of H v, and `image` is of that length.
        note: is told of which parameters H u is, it, and the difference that decided, (P,) each.
    """
    length = v.double().norm()
    u, own = v.to(wide.w) / length.to(wide.w), image.to(wide.w) / length.to(wide.w)
    g = wide.gradient(wide.w)

    def moved_to(w: Tensor) -> Tensor:
        """∇L(w) − ∇L at the weights."""
        change = wide.gradient(w) - g
        return change if rows is None else change[rows]

    def moved(h: float) -> Tensor:
        return moved_to(torch.add(wide.w, u, alpha=h))

    step = _step(wide, wide.precision, float(g.norm()), float(own.norm()))
    ahead = moved(step) / step
    found = _borne_out(at, wide, float((own - ahead).norm()), float(ahead.norm()))
    if found is not None:
        note(at.layout, own, ahead)
        return found
    step, product = _step(wide, wide.inner_precision(), float(g.norm()), float(own.norm())), at.inner_precision()

    def careful(h: float) -> tuple[Comparison, Tensor]:
        difference, ahead, behind = central_difference(moved, h)
        halves = float((ahead + behind).norm()) / h
        off, size = float((own - difference).norm()), float(difference.norm())
        return _compared(at, wide, off, size, halves, float(own.norm()), product), difference

    found, difference = careful(step)
    if found.error > UNDECIDED:  # rounding takes less of a longer step, kinks as much
        step *= MUCH_LONGER
        found, difference = min((found, difference), careful(step), key=lambda each: each[0].error)
    note(at.layout, own, difference)
    if not found.alarm:
        return found
    if product not in TOLERATED:
        return Comparison(None, why=f"rounding in {product} is as large as the product")
    return _before_alarm(found, difference, step, own, careful, _moved_by_rounding(wide, moved_to))


def _before_alarm(
    found: Comparison, difference: Tensor, step: float, own: Tensor, careful: Careful, rounding: float
) -> Comparison:
    """Two or four gradients more: an alarm is raised where the gradient's own rounding is far below what is off, and
    where differences of two lengths agree."""
    if rounding > UNDECIDED * step * float((own - difference).norm()):  # H u is far below |H|, and rounding is not
        step *= MUCH_LONGER
        found, difference = careful(step)
        if not found.alarm:
            return found
        if rounding > UNDECIDED * step * float((own - difference).norm()):
            return Comparison(None, why="rounding moves the gradient as much as the product says")
    longer = careful(LONGER * step)[1]
    if float((longer - difference).norm()) > UNDECIDED * float((own - difference).norm()):
        return Comparison(None, why="differences of two lengths disagree: the loss is not smooth in its precision")
    return found


def compare_outputs(
    at: Batch, wide: Batch, v: Vector, image: Vector, *, curvature: OutputCurvature, exact: bool
) -> Comparison:
    """vᵀGv against (Jv)ᵀC(Jv), Jv a difference of outputs.

    Args:
        at, wide, v, image: as `Compare` has them.
        curvature: C of a batch at its outputs.
        exact: C is the criterion's own second derivative, and `curvature` is that by differences of first ones.
    """
    length = v.double().norm()
    u, own = v.to(wide.w) / length.to(wide.w), float((v.double() @ image.double()) / length**2)
    outputs = _outputs(wide, wide.w)
    z0 = as_tensor(outputs)
    if isinstance(outputs, HiddenStates):
        C: Any = curvature(wide, outputs)
    else:
        C = None if exact else curvature(at, outputs.to(at.w))

    def forms(along: Tensor, precision: torch.dtype) -> tuple[float, float, float]:
        """How far vᵀGv is off along Jv, the form itself, and what rounding may do to it."""
        if C is not None:
            form = float((along * C(along.to(at.w)).to(along)).sum())
            return abs(own - form), abs(form), 0.0
        eps, size = torch.finfo(precision).eps, float(along.norm())
        t = eps ** (1 / 3) * float(z0.norm().clamp(min=1.0)) / size
        form = float((along * central_difference(lambda s: wide.slope(z0 + s * along), t)[0]).sum())
        return abs(own - form), abs(form), eps * size / (t * len(at))

    def moved(h: float) -> Tensor:
        return as_tensor(_outputs(wide, torch.add(wide.w, u, alpha=h))) - z0

    step = WIDER * _step(wide, wide.precision, 0.0, 1.0)
    ahead = moved(step) / step
    found = _borne_out(at, wide, *forms(ahead, wide.precision)[:2]) if ahead.any() else None
    if found is not None:
        return found
    precision = wide.inner_precision()
    step = WIDER * _step(wide, precision, 0.0, 1.0)
    along, ahead, behind = central_difference(moved, step)
    if not along.any():
        return Comparison(None, why="the outputs do not move along v")
    off, form, rounding = forms(along, precision)
    error = 2 * form * float((ahead + behind).norm() / along.norm()) / step + rounding
    found = _compared(at, wide, off, form, error, abs(own), at.inner_precision())
    if found.alarm and C is not None:  # C may be 0 along it up to rounding: what it does to another of that length
        other = torch.arange(along.numel(), dtype=along.dtype, device=along.device).cos().view_as(along)
        other *= along.norm() / other.norm()
        error += torch.finfo(at.w.dtype).eps * float((other * C(other.to(at.w)).to(along)).sum().abs())
        found = _compared(at, wide, off, form, error, abs(own), at.inner_precision())
    return found


def _borne_out(at: Batch, wide: Batch, off: float, size: float) -> Comparison | None:
    """The comparison where a first difference agrees with the product, of which more of them would not speak worse."""
    tolerance = TOLERATED.get(at.precision, 0.3)
    if not off <= tolerance * size or size == 0:
        return None
    return Comparison(off / size, ROUNDED.get(wide.precision, 0.1), tolerance)


def _compared(
    at: Batch, wide: Batch, off: float, size: float, error: float, own: float, precision: torch.dtype
) -> Comparison:
    if not isfinite(off + error):
        return Comparison(None, why="the product or its difference is NaN or infinite")
    if size == 0:
        return Comparison(None, why="the product is 0 there" if own == 0 else "nothing moves between the two points")
    if error > UNDECIDED * size:
        if not repeatable(at):
            raise ValueError(
                f"batch {at.index}: the loss is another one when it is evaluated again; draw its random numbers from "
                "torch's global generator, which is seeded for every batch"
            )
        full = wide.precision == torch.float64
        seen = "kinks or jumps beside w" if full else "kinks beside w, or rounding that dtype=torch.float64 is without"
        return Comparison(None, error / size, why=f"{seen}: differences decide nothing")
    return Comparison(off / size, error / size, TOLERATED.get(precision, 0.3))


def _step(batch: Batch, precision: torch.dtype, g: float, hu: float) -> float:
    eps, share = torch.finfo(precision).eps, ROUNDED.get(precision, 0.1)
    return eps / share * max(float(batch.w.norm()), LEAST_LENGTH, g / hu if hu > 0 else 0.0)


def _moved_by_rounding(batch: Batch, moved_to: Callable[[Tensor], Tensor], units: int = 4) -> float:
    """By how much the gradient moves when each weight moves by its last place."""
    signs = torch.arange(batch.w.numel(), dtype=batch.w.dtype, device=batch.w.device).cos().sign()
    w = batch.w * (1 + units * torch.finfo(batch.inner_precision()).eps * signs)
    return float(moved_to(w).norm()) / units


def _outputs(batch: Batch, w: Vector) -> Tensor | HiddenStates:
    with torch.no_grad():
        found: Tensor | HiddenStates = of_parameters(batch.evaluate(w)[1], batch.network.model, batch.layout.names)
    return found
