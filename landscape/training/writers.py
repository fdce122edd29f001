"""Where a `Tracker` tells its rows beside its own list: TensorBoard's writer, W&B's log, a figure, or a function."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from landscape.checks import require

PREFIX = "curvature/"  # of every tag


@runtime_checkable
class ScalarWriter(Protocol):
    """As torch.utils.tensorboard.SummaryWriter has it."""

    def add_scalar(self, tag: str, value: float, step: int) -> Any: ...


Writer = ScalarWriter | Callable[[dict[str, Any], int], Any]


def require_writer(writer: object) -> None:
    """Raises ValueError if it can be told nothing."""
    require(
        writer is None or isinstance(writer, ScalarWriter) or callable(writer),
        f"writer must have add_scalar(tag, value, step) or be callable as writer(values, step), "
        f"got {type(writer).__name__}; pass a SummaryWriter or wandb.log",
    )


def tagged(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row holds but its step, as {"curvature/lambda_max": ...}; what was not asked for is left out."""
    return {PREFIX + key: value for key, value in row.items() if value is not None and key != "step"}


def untagged(values: Mapping[str, Any]) -> dict[str, Any]:
    """The way back; what has another tag is left out."""
    return {tag.removeprefix(PREFIX): value for tag, value in values.items() if tag.startswith(PREFIX)}


def tell(writer: Writer | None, row: Mapping[str, Any]) -> None:
    """A row under its step."""
    if isinstance(writer, ScalarWriter):
        for tag, value in tagged(row).items():
            writer.add_scalar(tag, value, row["step"])
    elif writer is not None:
        writer(tagged(row), row["step"])
