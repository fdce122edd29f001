"""How far a run of products is: one step a product, in the bar that all long work has."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import distributed

from landscape.linalg.scaled import Scaled
from landscape.processes.progress import Bar, progress_bar

DELAY = 1.0  # seconds; what ends before, as each point of a map does, shows nothing


@dataclass(frozen=True)
class EigenProgress:
    """Where a run stands, as `progress` is told at every look at the small matrix."""

    matvecs: int
    converged: int  # of the k wanted pairs
    residual: float  # the largest among them; infinite while there are fewer


def bar_of(total: int | None, unit: str, progress: bool | None) -> Bar:
    """The bar; by default after a second, and of processes that all repeat the work only in the first."""
    if progress is not None:
        return progress_bar(total, unit=unit, progress=progress)
    joined = distributed.is_available() and distributed.is_initialized()
    return progress_bar(total, unit=unit, progress=False if joined and distributed.get_rank() else None, delay=DELAY)


@contextmanager
def products_shown(operator: Scaled, total: int | None, progress: bool | None) -> Iterator[Bar]:
    """A bar that every product with `operator` moves on; `total` where it is known, `progress` as in `progress_bar`."""
    with bar_of(total, "product", progress) as bar:
        operator.told = bar.update
        try:
            yield bar
        finally:
            operator.told = None


@contextmanager
def eigenpairs_shown(
    operator: Scaled, k: int, progress: Callable[[EigenProgress], object] | bool | None
) -> Iterator[Callable[[EigenProgress], object] | None]:
    """What a search for k pairs tells where it stands: the caller's own function, or a bar; None where nobody looks."""
    if callable(progress):
        yield progress
        return
    with products_shown(operator, None, progress) as bar:
        yield None if bar.disable else lambda at: bar.set_postfix(converged=f"{at.converged} of {k}", refresh=False)
