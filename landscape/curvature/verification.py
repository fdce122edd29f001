"""Every operator proves itself once: its first product on one batch against differences.

A matrix from wrong second derivatives is as symmetric as a right one and converges as well; only what the network does
when its weights are moved tells. With u = v/|v| the Hessian's H u is held against (∇L(w + hu) − ∇L(w − hu)) / 2h, and
vᵀGv of G = JᵀCJ against (Jv)ᵀC(Jv), Jv a difference of outputs and C of the criterion's gradient by the outputs.

The step is as short as the precision allows, which is the coarsest on the way from w to the loss: with τ the part of
|Hu| that rounding may take, h = (ε/τ) max(|w|, |g|/|Hu|) moves the weights by many units in the last place. What the
difference itself may be off by is read from its two halves, |D₊ − D₋|, which a kink, a jump or a random number between
w − hu and w + hu makes as large as the curvature. Where the batch allows, a few of its rows are compared in float64, so
that even networks of rectifiers are smooth between the two points; else the batch as it is, in its own precision.
The price is at most three gradients of a batch.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from landscape.problem.batch import Batch, gradient_of
from landscape.problem.batches import tensors_of
from landscape.problem.placement import graph_nodes
from landscape.vectors import Vector

SHARE = 8  # of a batch's rows, one in so many is compared
LARGE = 2**22  # parameters that are moved; of a larger network some, the small ones first, in memory of their own size
LARGEST = 2**25  # parameters: beyond, a copy in float64 would take more memory than a product
LONGER = 10  # a second step, before an alarm
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
        return f"off by {self.disagreement:.2g} from differences, which are off by {self.error:.1g} at most"


Products = Callable[[Batch, Tensor], Tensor]  # of a batch, by the method that is to be verified
Compare = Callable[[Batch, Batch, Tensor, Tensor], Comparison]  # where the product is; where differences are taken


def verified(
    batch: Batch, v: Tensor, image: Tensor, product: Products, compare: Compare, *, some: bool = True
) -> Comparison:
    """The comparison on a few rows in float64 where that can be done, else on the whole batch in its own precision.

    `some`: the product can be asked of a batch as a function of some parameters, which a large network is.
    """
    large = some and batch.w.numel() > LARGE
    if not large and not image.isfinite().all():
        return Comparison(None, why="the product is not finite")
    if large:
        batch, v = _some_parameters(batch, v)
    part = _few_rows(batch)
    if part is not None:
        with suppress(RuntimeError, ValueError, TypeError, LookupError, AssertionError):
            # whatever rows or float64 do to a network: the whole batch is left
            own = product(part, v)
            if own.any() and own.isfinite().all():
                wide = part if batch.placement.size > LARGEST else part.in_precision(torch.float64)
                found = _or_rounding(compare(part, wide, v, own), wide, v, product, compare)
                if found.disagreement is not None:
                    return found
    found = compare(batch, batch, v, product(batch, v) if large else image)
    wide = batch if not found.alarm or batch.placement.size > LARGEST else batch.in_precision(torch.float64)
    return _or_rounding(found, wide, v, product, compare)


def _or_rounding(found: Comparison, wide: Batch, v: Tensor, product: Products, compare: Compare) -> Comparison:
    """No alarm where the same method in float64 agrees with differences there: what is off is rounding alone."""
    if not found.alarm or wide.dtype != torch.float64 or v.dtype == torch.float64:
        return found
    again = found
    with suppress(RuntimeError, ValueError, TypeError):
        again = compare(wide, wide, v.double(), product(wide, v.double()))
    if again.disagreement is None:
        return again
    if again.alarm:
        return found
    return replace(found, tolerance=float("inf"), why=f"rounding in {v.dtype}; dtype=torch.float64 is without it")


def _some_parameters(batch: Batch, v: Tensor) -> tuple[Batch, Tensor]:
    """The batch as a function of its smaller parameters, LARGE entries of them, and v on these, or ones."""
    sizes, room = batch.layout.sizes, LARGE
    places: list[int] = []
    for place in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        room -= sizes[place]
        if room < 0 and places:
            break
        places.append(place)
    places.sort()
    pieces = v.split(sizes)
    part = torch.cat([pieces[i] for i in places])
    return batch.of_some(places), part if part.any() else torch.ones_like(part)


def compare_gradients(at: Batch, wide: Batch, v: Vector, image: Tensor, rows: Tensor | None = None) -> Comparison:
    """H v against a difference of gradients; with `rows`, (n,), only those of H v, and `image` is of that length."""
    leaf = wide.w.detach().clone().requires_grad_()
    loss = wide.loss(leaf)
    precision = wide.inner_precision(loss)
    g = gradient_of(loss, leaf)
    length = v.double().norm()
    u, own = v.to(wide.w) / length.to(wide.w), image.to(wide.w) / length.to(wide.w)
    step = _step(wide, precision, float(g.norm()), float(own.norm()))

    def differences(h: float) -> tuple[Tensor, Tensor]:
        ahead, behind = (wide.gradient(wide.w + sign * h * u) for sign in (1, -1))
        here = g
        if rows is not None:
            ahead, behind, here = ahead[rows], behind[rows], g[rows]
        return (ahead - behind) / (2 * h), ((ahead - here) - (here - behind)).norm() / h

    difference, halves = differences(step)
    product = precision if at is wide else at.inner_precision()
    off, size = float((own - difference).norm()), float(difference.norm())
    found = _compared(at, off, size, float(halves), float(own.norm()), product)
    if not found.alarm:
        return found
    if product not in TOLERATED:
        return Comparison(None, why=f"rounding in {product} is as large as the product")
    longer, _ = differences(LONGER * step)  # two gradients more, before an alarm is raised
    moved = float((longer - difference).norm())
    if moved > UNDECIDED * float((own - difference).norm()):
        return Comparison(None, why="differences of two lengths disagree: the loss is not smooth in its precision")
    return found


def compare_outputs(output_curvature: Callable[[Batch, Tensor], Callable[[Tensor], Tensor]], exact: bool) -> Compare:
    """vᵀGv against (Jv)ᵀC(Jv), Jv a difference of outputs.

    Args:
        output_curvature: C of a batch at its outputs.
        exact: C is the criterion's own second derivative, and compared with a difference of first ones.
    """

    def compare(at: Batch, wide: Batch, v: Vector, image: Vector) -> Comparison:
        with torch.no_grad():
            z, z0 = (_outputs(batch, batch.w) for batch in (at, wide))
        length = v.double().norm()
        u = v.to(wide.w) / length.to(wide.w)
        precision = wide.inner_precision()
        h = WIDER * _step(wide, precision, 0.0, 1.0)
        with torch.no_grad():
            ahead, behind = (_outputs(wide, wide.w + sign * h * u) for sign in (1, -1))
        along = (ahead - behind) / (2 * h)
        if not along.any():
            return Comparison(None, why="the outputs do not move along v")
        halves = float((((ahead - z0) - (z0 - behind)).norm() / h) / along.norm())
        curved = output_curvature(at, z)(along.to(z)).to(along)
        form, own = float((along * curved).sum()), float((v.double() @ image.double()) / length**2)
        off, rounding = abs(own - form), 0.0
        if exact:
            eps, length_z = torch.finfo(precision).eps, float(along.norm())
            t = eps ** (1 / 3) * float(z0.norm().clamp(min=1.0)) / length_z
            slopes = [wide.slope(z0 + sign * t * along) for sign in (1, -1)]
            true = float((along * (slopes[0] - slopes[1])).sum() / (2 * t))
            off, form, rounding = max(abs(own - true), abs(form - true)), true, eps * length_z / (t * len(at))
        product = precision if at is wide else at.inner_precision()
        return _compared(at, off, abs(form), 2 * halves * abs(form) + rounding, abs(own), product)

    return compare


def cause(batch: Batch, asked: str) -> str:
    """What may be behind a product that differences contradict, and what to do."""
    if not _repeatable(batch):
        return "the loss is another one at each evaluation: draw its random numbers from torch's global generator"
    loss = batch.loss(batch.w.detach().clone().requires_grad_())
    own = sorted({node.name() for node in graph_nodes(loss.grad_fn) if hasattr(node, "_forward_cls")})
    likely = (
        f"the likely cause is the backward of {own[0]}, which torch cannot differentiate"
        if own
        else ("the likely cause is a value that forward detaches, or a derivative taken inside it")
    )
    if asked in ("auto", "central_differences"):
        return f"{likely}; no mode agrees with differences, is the gradient that of the loss?"
    return f"{likely}; use mode='auto'"


def _compared(at: Batch, off: float, size: float, error: float, own: float, precision: torch.dtype) -> Comparison:
    if size == 0:
        return Comparison(None, why="the product is 0 there" if own == 0 else "nothing moves between the two points")
    scale = max(size, 1e-300) if size > 0 else own
    if error > UNDECIDED * scale:
        if not _repeatable(at):
            raise ValueError(
                f"batch {at.index}: the loss is another one when it is evaluated again; draw its random numbers from "
                "torch's global generator, which is seeded for every batch"
            )
        return Comparison(None, error / scale, why="kinks or jumps beside w: differences decide nothing")
    return Comparison(off / scale, error / scale, _by_precision(TOLERATED, precision, 0.3))


def _few_rows(batch: Batch) -> Batch | None:
    """A share of the rows as a batch of its own, if all tensors are lists of samples and it is cheap."""
    rows, native = max(1, len(batch) // SHARE), batch.placement.size > LARGEST
    tensors = tensors_of((batch.inputs, batch.targets))
    alike = all(t.layout == torch.strided and t.ndim > 0 and len(t) == len(batch) for t in tensors)
    indices = any(not t.is_floating_point() for t in tensors_of(batch.inputs))  # of other rows, out of range, on a GPU
    if not alike or (2 if native else 3) * rows > len(batch) or (indices and batch.w.is_cuda):
        return None
    return batch.rows(0, rows, batch.units * rows / len(batch))


def _step(batch: Batch, precision: torch.dtype, g: float, hu: float) -> float:
    eps, share = torch.finfo(precision).eps, _by_precision(ROUNDED, precision, 0.1)
    return eps / share * max(float(batch.w.norm()), LEAST_LENGTH, g / hu if hu > 0 else 0.0)


def _by_precision(table: dict[torch.dtype, float], dtype: torch.dtype, otherwise: float) -> float:
    return table.get(dtype, otherwise)


def _repeatable(batch: Batch) -> bool:
    with torch.no_grad():
        return bool(batch.evaluate(batch.w)[0] == batch.evaluate(batch.w)[0])


def _outputs(batch: Batch, w: Vector) -> Tensor:
    outputs: Tensor = batch.evaluate(w)[1]
    return outputs
