"""A way from a batch to products with its matrix, and the choice among several: the first that works and is right."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from landscape.checks import first_line, one_of
from landscape.curvature.causes import of_disagreement, of_infinity, root_at_zero
from landscape.curvature.verification import Compare, Comparison, require_symmetric, verified
from landscape.problem.batch import Batch
from landscape.problem.cost import note_verification
from landscape.problem.traits import BatchError
from landscape.vectors import Block, Vector

Product = Callable[[Block], Block]


@dataclass(frozen=True)
class Manner:
    """How a batch is linearised.

    Attributes:
        chunk: columns at once by vmap.
        once: the graph serves one block only and may be freed on the way.
        note: is told the batch's units and the estimated error of each column, (K,), where there is one.
    """

    chunk: int = 1
    once: bool = True
    note: Callable[[float, torch.Tensor], None] = lambda _units, _errors: None


@dataclass(frozen=True)
class Method:
    """A way to the products of a batch.

    Attributes:
        name: of the mode.
        linearise: a batch at its w as a function of blocks, (P, K) to (P, K).
        keeps: whether that function holds a graph, which is worth keeping.
        fresh, column: gradients that it costs to build, and for each column.
        second_order: whether it takes second derivatives of the network.
        about: what is particular.
    """

    name: str
    linearise: Callable[[Batch, Manner], Product]
    keeps: bool
    fresh: float
    column: float
    second_order: bool = True
    about: str = ""

    def single(self, batch: Batch, v: Vector) -> Vector:
        """The batch's product with one vector."""
        return self.linearise(batch, Manner())(v[:, None])[:, 0]


NOT_FINITE = "the product is NaN or infinite"


@dataclass(eq=False)
class Choice:
    """Which of several methods serves: the first one that raises nothing, is finite and agrees with differences.

    Attributes:
        mode: "auto" until the first product, then the name of a method.
        reason: why it was chosen.
        comparison: of the first product with differences; None where none was made.
        strict: each batch's product must be finite, not the first one alone.
        shared: a comparison of a method, on this batch, that serves several operators; in place of an own one where it
            finds nothing wrong.
    """

    methods: Sequence[Method]
    compare: Compare | None
    asked: str = "auto"
    restrictable: bool = True  # the methods take a batch as a function of some parameters
    mode: str = "auto"
    reason: str = ""
    comparison: Comparison | None = None
    strict: bool = False
    shared: Callable[[Batch, Method], Comparison] | None = None
    _failures: list[str | Comparison] = field(default_factory=list)
    _settled: bool = False

    def __post_init__(self) -> None:
        one_of("mode", self.asked, ("auto", *dict.fromkeys(method.name for method in self.methods)))
        self.mode = self.asked
        if self.asked != "auto":
            self.methods = [method for method in self.methods if method.name == self.asked]
            self.reason = "asked for"

    @property
    def settled(self) -> bool:
        """Whether a product has been made that the method could be judged by."""
        return self._settled

    @property
    def method(self) -> Method:
        """The method in use."""
        return self.methods[len(self._failures)]

    def image(self, batch: Batch, block: Block, manner: Manner) -> tuple[Block, Product]:
        """The product of a batch with a block, and the function that it came from."""
        while True:
            method = self.method
            try:
                product = method.linearise(batch, manner)
                image = product(block)
            except (torch.OutOfMemoryError, BatchError):
                raise
            except (RuntimeError, ValueError) as error:
                if self._settled:
                    raise
                self._fail(batch, first_line(error), error)
                continue
            if (self.strict or not self._settled) and self._broken(batch, block, image):
                self._settled = False
                self._fail(batch, NOT_FINITE)
                continue
            if not self._settled and not self._agrees(batch, block, image):
                continue
            return image, product

    def _broken(self, batch: Batch, block: Block, image: Block) -> bool:
        """Whether the product is not finite, where that is looked for; what just overflows is finite for short v."""
        if finite(image).all() or (self.asked != "auto" and self.compare is None) or not block.isfinite().all():
            return False
        short = block * torch.finfo(block.dtype).max ** -0.25
        return not self.method.linearise(batch, Manner())(short).isfinite().all()

    def _agrees(self, batch: Batch, block: Block, image: Block) -> bool:
        columns = (block.any(dim=0) & finite(image)).nonzero()[:, 0].tolist()
        if self.compare is not None and columns:
            found = self.shared(batch, self.method) if self.shared else None
            v, own = block[:, columns[0]], image[:, columns[0]]
            if found is None or found.alarm:
                found = verified(batch, v, own, self.method.single, self.compare, some=self.restrictable)
            if found.alarm:
                self._fail(batch, found)
                return False
            if any(isinstance(failure, Comparison) for failure in self._failures):
                require_symmetric(batch, v, own, self.method.single)
            self.comparison = found
            note_verification(found.disagreement)
        self.mode, self._settled = self.method.name, self.compare is None or bool(columns)
        if self.asked == "auto":
            self.reason = self._why()
        return True

    def _why(self) -> str:
        if not self._failures:
            rounding = self.comparison.why if self.comparison and self.comparison.disagreement is not None else ""
            return "; ".join(part for part in (self.method.about, rounding) if part)
        first = self._failures[0]
        if isinstance(first, Comparison):
            return f"second derivatives by {self.methods[0].name} are wrong here: {first}"
        return f"no second derivative: {first}"

    def _fail(self, batch: Batch, failure: str | Comparison, error: BaseException | None = None) -> None:
        """On to the next method. Raises where there is none."""
        self._failures.append(failure)
        lost = failure == NOT_FINITE and bool(root_at_zero(batch))  # where there is no derivative, not just none found
        if len(self._failures) < len(self.methods) and not lost:
            return
        failures = list(self._failures)
        self._failures.clear()
        wrong = next((each for each in failures if isinstance(each, Comparison)), None)
        met = f"batch {batch.index}: the product by"
        if wrong is not None:
            name = self.methods[failures.index(wrong)].name
            raise ValueError(f"{met} {name} is {wrong}; {of_disagreement(batch, self.asked)}")
        if NOT_FINITE in failures or error is None:
            name = self.methods[failures.index(NOT_FINITE)].name
            raise ValueError(f"{met} {name} is NaN or infinite; {of_infinity(batch, self.asked)}")
        if self.asked == "auto" or isinstance(error, ValueError):
            raise error
        raise ValueError(f"{met} {self.asked} is not there: {first_line(error)}; use mode='auto'") from error


def finite(block: Block) -> Tensor:
    """Which columns are, (K,). A sum shows it with no copy of a large vector, of which `isfinite` makes several."""
    seen = block.sum(dim=0).isfinite()
    return seen if seen.all() else block.isfinite().all(dim=0)


class ColumnsError(Exception):
    """An operation of the network that vmap does not know, or runs one column after another."""


def in_columns(one: Callable[..., Vector], block: Block, chunk: int, once: bool = False) -> Block:
    """one(v) for every column v, `chunk` of them at once by vmap; (P, K) to (P, K).

    With `once` the last column is asked for with keep=False: its graph may be freed on the way, which lowers the peak.
    """
    count = block.shape[1]
    if chunk > 1 and count > 1:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="There is a performance drop")
                return torch.vmap(one, in_dims=1, out_dims=1, chunk_size=chunk)(block)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, UserWarning) as error:
            raise ColumnsError from error
    if count == 1:
        v = block[:, 0]
        return (one(v, keep=False) if once else one(v))[:, None]
    image = torch.empty_like(block)
    for i, v in enumerate(block.T):
        image[:, i] = one(v.contiguous(), keep=False) if once and i == count - 1 else one(v.contiguous())
    return image
