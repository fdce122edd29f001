"""Operators of any scale: 2^-e A in place of A, so that squares neither overflow nor underflow, as LAPACK does it.

The first product that is not zero tells e. While A v is within 2^±w of v, with w an eighth of the dtype's largest
exponent (16 in float32, 128 in float64), nothing is touched; a power of two rounds nothing elsewhere. A part of it goes
to the vectors, so that products which overflow or underflow by themselves come back right as well.
Source: Anderson et al. 1999, LAPACK Users' Guide, routine xSYEV.
"""

from collections.abc import Callable
from dataclasses import replace
from math import frexp, isfinite

import torch
from torch import Tensor

from landscape.checks import require
from landscape.linalg.operator import CurvatureOperator, DerivedOperator
from landscape.storage.results import Estimate


class Scaled(DerivedOperator):
    """The operator at a scale near 1; every product that comes back is finite.

    Raises:
        ValueError: from a product, if the operator gives NaN or infinity, also for vectors 2^-2w as long.
    """

    def __init__(self, operator: CurvatureOperator) -> None:
        super().__init__(operator)
        self.known: int | None = None  # e; None until a product has told it
        self._stretch = 0  # of the last product's vectors, a power of two
        self.window = frexp(torch.finfo(operator.dtype).max)[1] // 8
        self.told: Callable[[int], object] | None = None  # how many products came back

    @property
    def exponent(self) -> int:
        """e, 0 while nothing has told it."""
        return self.known or 0

    def dense(self, *, chunk: int = 64) -> Tensor:
        """2^-e A, with e from all of its entries: single columns may be of any scale."""
        found = self.taken(self.operator.dense(chunk=chunk))
        if self.told is not None:
            self.told(self.shape[0])
        return found

    def taken(self, known: Tensor) -> Tensor:
        """Numbers that grow as the operator, such as its eigenvalues, at the scale of this one; they may tell it."""
        require_finite(largest := _largest(known))
        self._tell(largest, 1.0)
        return times_power(known, -self.exponent)

    def restored(self, value: Tensor, power: float = 1.0, other: int = 0) -> Tensor:
        """`value`, which grows as the operator's `power`, at the operator's own scale, times 2^other.

        Raises:
            ValueError: if the value's dtype does not hold the result.
        """
        e = power * self.exponent + other
        if e == 0 or value.numel() == 0:
            return value
        found, limits = times_power(value, e), torch.finfo(value.dtype)
        fault = "overflows" if bool((found.isfinite() != value.isfinite()).any()) else ""
        if value.abs().max() > limits.eps and found.abs().max() < limits.tiny:
            fault = "underflows"
        require(
            not fault, f"the result {fault} {value.dtype}: it is of the scale 2^{e:g}; scale the loss, or use float64"
        )
        return found

    def estimate(self, found: Estimate, power: float = 1.0) -> Estimate:
        """An estimate of this operator as one of the operator that was given."""
        value = self.restored(found.value, power)
        stderr = times_power(found.stderr, power * self.exponent)
        return replace(found, value=value, stderr=stderr, verified=self.verified)

    def state(self) -> dict[str, Tensor]:
        """What a run that goes on later has to keep."""
        return {} if self.known is None else {"exponent": torch.tensor(self.known, device="cpu")}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take it up, and out of `state`."""
        known = state.pop("exponent", None)
        self.known = None if known is None else int(known)

    def _product(self, block: Tensor) -> Tensor:
        stretch = max(-2 * self.window, min(2 * self.window, -self.exponent))
        image = self.operator.matmat(times_power(block, stretch))
        largest = self._largest(image)
        if self.known is None:
            limits = torch.finfo(self.dtype)
            if not isfinite(largest) or 0 < largest < limits.tiny / limits.eps:
                stretch = 2 * self.window * (1 if isfinite(largest) else -1)
                image = self.operator.matmat(times_power(block, stretch))
                largest = self._largest(image)
            self._tell(largest, self._largest(block), stretch)
        require_finite(largest)
        self._stretch = stretch
        if self.told is not None:
            self.told(block.shape[1])
        return times_power(image, -self.exponent - stretch)

    def _largest(self, block: Tensor) -> float:
        return self.space.largest(_largest(block))

    @property
    def errors(self) -> Tensor | None:
        found = self.operator.errors
        return None if found is None else times_power(found, -self.exponent - self._stretch)

    def _tell(self, image: float, vector: float, stretch: int = 0) -> None:
        """The scale from a product's largest entry and that of the vector, 2^stretch times which was multiplied."""
        if self.known is None and image > 0 and isfinite(image):
            e = frexp(image)[1] - frexp(vector)[1] - stretch
            self.known = e if abs(e) > self.window else 0


def require_finite(largest: float) -> None:
    """Refuse products that hold NaN or infinity."""
    require(
        isfinite(largest), "the operator gave NaN or infinity; check the loss and the weights, and the scale of both"
    )


def times_power(value: Tensor, e: float) -> Tensor:
    """value · 2^e, in two steps, for 2^e alone may be out of range; `value` itself where e is 0."""
    if e == 0:
        return value
    e = max(-2000.0, min(2000.0, e))
    half = e // 2
    scaled: Tensor = value * 2.0**half * 2.0 ** (e - half)
    return scaled


def _largest(block: Tensor) -> float:
    """The largest magnitude among the entries, NaN where there is one; 0 without any."""
    if block.numel() == 0:
        return 0.0
    low, high = block.aminmax()
    return float(torch.maximum(-low, high))
