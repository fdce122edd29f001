"""Hessian of a sharded model by differences of whole gradients, (P, P), each process with its own entries of a vector.

With u = v/|v| and D(h) = (∇L(w + hu) − ∇L(w − hu)) / 2h, one step of Richardson's extrapolation,
H u = (4 D(h/2) − D(h)) / 3 + O(h⁴): four gradients of all the data. Shards have no second derivatives: FSDP2 gathers
weights outside of autograd, and those of DTensors came out wrong (docs/scale.md).

The error of a column is estimated by 2 |D(h/2) − D(h)|, above the truncation error as the part that the extrapolation
removes, and by what rounding may do: ε |∇L| / h to the gradients, ε of the coarsest precision inside, and ε |w| / h to
the move, ε of the weights as they are used, along which the curvature is at most about the largest seen so far. Two
steps that agree by chance leave the second part: the estimate is never 0. It goes into the residuals of eigenpairs.

The step of the first product is halved while the estimate falls as a share of |H u|, for far out both differences are
small. Later ones are halved, at two gradients more, where truncation outweighs rounding, as along eigenvectors of
large eigenvalues, and doubled where it is far below. At the first product, too, the gradient itself is held against
differences of the loss along it: symmetry would not tell a gradient that is averaged wrongly.
Source: Richardson 1911, "The approximate arithmetical solution by finite differences"; Ridders 1982.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from landscape.autograd.central_difference import central_difference
from landscape.checks import not_negative, one_of, require, vector_like
from landscape.linalg.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.problem.cost import note_verification
from landscape.vectors import Block, Vector

ORDER = 5  # truncation h⁴ and rounding eps/h balance at h = eps^(1/5)
HALVINGS = 12  # at most, from eps^(1/5) (1 + |w|)
# The estimate is of h², what is left is of h⁴. Of a small Llama 4 gave eigenvalues to 2e-6 and the trace to 6e-5, and
# no halving at all 6e-5 and 3e-6.
LONG, SHORT = 32.0, 1 / 2  # truncation over rounding: above, half a step at once; below, twice one the next time
FEWEST_ULP = 8  # units in the last place that a step moves the weights by
UNDECIDED, COARSE = 0.3, 1e-4  # relative error of a product that says nothing; eps above those of half precisions
DECIDES = 0.1  # relative error of a difference of losses that decides
TOLERATED = {torch.float64: 1e-4, torch.float32: 2e-2}  # disagreement with it; half precisions .3


@dataclass(frozen=True, eq=False)
class Column:
    """H u, by what it may be off, and |H u|."""

    image: Vector
    truncation: float
    rounding: float
    size: float

    @property
    def error(self) -> float:
        return self.truncation + self.rounding


class ShardedHessian(CurvatureOperator):
    """∇²L(w) + λI at a fixed w. Making one reads no data.

    Args:
        problem: on a sharded model. All its processes make the same calls.
        w: where, the own entries; default the model's own weights now.
        weight_decay: λ.
        verify: hold the gradient against differences of the loss at the first product: two to four forward passes.
    Attributes:
        step: h, with which the next column begins; 0 before the first.
        error_estimate: of the last product, relative, largest of its columns.
    """

    def __init__(
        self, problem: Problem, w: Tensor | None = None, *, weight_decay: float = 0.0, verify: bool = True
    ) -> None:
        not_negative("weight_decay", weight_decay)
        own = problem.vector()
        if w is not None:
            vector_like("w", w, own)
        super().__init__(problem.size, own.dtype, own.device, problem.space)
        assert problem.shards is not None
        self.shards = problem.shards
        self.problem, self.weight_decay, self.verify = problem, weight_decay, verify
        self.w = own if w is None else w.detach().clone()
        self.length = float(self.space.norms(self.w))
        self.eps = self.eps_of_weights = self.step = self.error_estimate = self.largest = 0.0
        self.mode, self.reason = "central_differences", "no second derivative: the model is sharded"
        self._errors: Tensor | None = None
        self._verified: float | None = None

    @property
    def verified(self) -> float | None:
        return self._verified

    @property
    def errors(self) -> Tensor | None:
        return self._errors

    def _product(self, block: Block) -> Block:
        lengths = self.space.norms(block).double()
        columns, errors = [], []
        for v, length in zip(block.T, lengths.tolist(), strict=True):
            column = self._column(v / length) if length > 0 else Column(v, 0.0, 0.0, 0.0)
            columns.append(length * column.image)
            errors.append(length * column.error)
            self.largest = max(self.largest, column.size)
        image = torch.stack(columns, dim=1)
        self._errors = torch.tensor(errors, dtype=torch.float64, device=block.device)
        sizes = self.space.norms(image).double().clamp(min=torch.finfo(image.dtype).tiny)
        self.error_estimate = float((self._errors / sizes).max())
        return image.add_(block, alpha=self.weight_decay) if self.weight_decay else image

    def _column(self, u: Vector) -> Column:
        """H u for a unit vector."""
        if self.step == 0:
            self._begin()
            return self._first(u)
        wide, step = self._difference(u, self.step)[0], self.step
        for _ in range(HALVINGS):
            narrow = self._difference(u, step / 2)
            found = self._extrapolated(step, wide, narrow)
            if not found.truncation > LONG * found.rounding or step / 2 < self._shortest:
                break
            step, wide = step / 2, narrow[0]
        self.step = min(2 * step, self._longest) if found.truncation < SHORT * found.rounding else step
        return found

    def _begin(self) -> None:
        """A gradient, which tells the precision, and the gradient held against differences."""
        g = self.problem.gradient(self.w)
        assert self.shards.precisions is not None
        self.eps, self.eps_of_weights = (torch.finfo(each).eps for each in self.shards.precisions)
        if self.verify:
            self._verified = self._agreement(g)
            note_verification(self._verified)

    @property
    def _longest(self) -> float:
        return self.eps ** (1 / ORDER) * (1 + self.length)

    @property
    def _shortest(self) -> float:
        """Steps below move weights by few of their last places."""
        return FEWEST_ULP * self.eps_of_weights * self.length

    def _first(self, u: Vector) -> Column:
        """The column at the step of the smallest estimate, with which the next one begins."""
        step, least, chosen, worse = self._longest, inf, None, 0
        wide = self._difference(u, step)[0]
        for _ in range(HALVINGS):
            narrow = self._difference(u, step / 2)
            found = self._extrapolated(step, wide, narrow)
            share = found.error / max(found.size, torch.finfo(self.dtype).tiny)
            if share < least:
                chosen, least, self.step, worse = found, share, step, 0
            else:
                worse += 1
            step, wide = step / 2, narrow[0]
            if worse == 2 or step < self._shortest:  # a kink between two points may make one worse
                break
        coarse = chosen is not None and least > UNDECIDED and self.eps > COARSE
        self.step = 0.0 if coarse else self.step  # so that another product does not go on with it
        require(
            not coarse,
            f"products are off by {least:.0%} of their length or more: differences of gradients of eps {self.eps:.1g} "
            "decide nothing here; compute in float32 (MixedPrecisionPolicy, autocast)",
        )
        if chosen is None:
            raise ValueError("the gradient is NaN or infinite beside w; check the weights and the loss there")
        return chosen

    def _extrapolated(self, step: float, wide: Vector, narrow: tuple[Vector, float]) -> Column:
        half, size = narrow
        apart, image = self.space.norms(torch.stack([half - wide, half], dim=1)).tolist()
        rounding = (self.eps * size + self.eps_of_weights * self.length * max(self.largest, image)) / step
        return Column((4 * half - wide) / 3, 2 * apart, rounding, image)

    def _difference(self, u: Vector, h: float) -> tuple[Vector, float]:
        """D(h), and the size of the gradients."""
        found, *both = central_difference(lambda t: self.problem.gradient(self.w + t * u), h)
        return found, float(self.space.norms(torch.stack(both, dim=1)).max())

    def _agreement(self, g: Vector) -> float | None:
        """How far |∇L| and a difference of L along it are apart, relative; None where that decides nothing."""
        slope = float(self.space.norms(g))
        if slope == 0:
            return None
        h = self.eps ** (1 / 3) * (1 + self.length)
        found = []
        for step in (h, h / 2):
            D, ahead, behind = central_difference(lambda t: self.problem.loss(self.w + t * g / slope).double(), step)
            found.append((float(D), self.eps * float(ahead.abs() + behind.abs()) / step))
        (wide, _), (narrow, rounding) = found
        off, error = abs(narrow - slope), abs(narrow - wide) + rounding
        if error > DECIDES * max(slope, abs(narrow)):
            return None
        require(
            off <= TOLERATED.get(self.dtype, 0.3) * slope + 3 * error,
            f"the gradient of the sharded model is off by {off / slope:.2g} from differences of its loss; is it "
            "averaged over the processes (set_gradient_divide_factor, set_requires_gradient_sync)?",
        )
        return off / slope


def sharded_hessian(
    problem: Problem, w: Tensor | None, mode: str, *, weight_decay: float = 0.0, verify: bool = True, **others: object
) -> ShardedHessian:
    """`hessian` of a sharded model. Raises ValueError for what needs second derivatives or graphs."""
    one_of("mode of a sharded model, which has no second derivatives,", mode, ("auto", "central_differences"))
    given = [name for name, value in others.items() if value]
    require(not given, f"{given} must be left out for a sharded model, whose products are differences of gradients")
    return ShardedHessian(problem, w, weight_decay=weight_decay, verify=verify)
