"""Validation at the public edge: one line that says what was expected, what came, and what to try."""

from collections.abc import Collection
from math import isfinite

from torch import Tensor


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def integer_in(name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise ValueError unless `value` is an integer in [low, high]."""
    span = f"in [{low}, {high}]" if high is not None else f"at least {low}"
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(
        whole and low <= value and (high is None or value <= high), f"{name} must be an integer {span}, got {value!r}"
    )


def positive(name: str, value: float) -> None:
    """Raise ValueError unless 0 < value < infinity."""
    require(isfinite(value) and value > 0, f"{name} must be positive and finite, got {value!r}")


def not_negative(name: str, value: float) -> None:
    """Raise ValueError unless 0 <= value < infinity."""
    require(isfinite(value) and value >= 0, f"{name} must be finite and at least 0, got {value!r}")


def norm_order(name: str, value: float) -> None:
    """Raise ValueError unless `value` is the p of a norm, 1 <= p <= infinity."""
    require(value >= 1, f"{name} must be in [1, inf], got {value!r}")  # NaN is not


def one_of(name: str, value: object, options: Collection[object]) -> None:
    """Raise ValueError unless `value` is among `options`."""
    listed = " | ".join(repr(option) for option in options)
    require(value in options, f"{name} must be one of {listed}, got {value!r}")


def vector_like(name: str, vector: Tensor, like: Tensor) -> None:
    """Raise ValueError unless `vector` has the shape, dtype and device of `like`, (P,)."""
    require(
        isinstance(vector, Tensor), f"{name} must be a tensor of shape {tuple(like.shape)}, got {type(vector).__name__}"
    )
    expected, got = _signature(like), _signature(vector)
    require(expected == got, f"{name} must be {expected}, got {got}")


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind where it says nothing: for a message of ours, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def first_cause(error: BaseException) -> str:
    """The same of the error that it all began with."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return first_line(error)


def _signature(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"
