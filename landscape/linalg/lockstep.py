"""Algorithms on the blocks of a direct sum A_1 ⊕ A_2 ⊕ ..., run side by side so that one product serves them all.

Each task sees its own block as an operator and runs, unchanged, in a thread of its own; a product it asks for waits
until every task still at work has asked for one. Then one product with the direct sum answers all of them. Which thread
comes first changes no number.
"""

from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import Any

import torch
from torch import Tensor

from landscape.linalg.operator import CurvatureOperator
from landscape.side_effects import derivatives_on
from landscape.vectors import Block

Task = tuple[int, Callable[[CurvatureOperator], Any]]  # which block, and what to do with it


def lockstep(
    operator: CurvatureOperator,
    sizes: Sequence[int],
    tasks: Sequence[Task],
    told: Callable[[], object] = lambda: None,
) -> tuple[list[Any], int]:
    """Run the tasks together.

    Args:
        operator: the direct sum, (S, S).
        sizes: of its blocks, summing to S.
        tasks: block's index and a function of that block's operator; several may share a block. A task must not use
            what another one changes, such as a common generator.
        told: called after each product.
    Returns:
        The tasks' results in their order, and how many products with blocks of vectors were asked of the operator.
    Raises:
        Exception: the first task's failure, or the operator's, after all tasks have ended.
    """
    desk = _Desk(len(tasks))
    results: list[Any] = [None] * len(tasks)

    def work(place: int) -> None:
        block, function = tasks[place]
        try:
            results[place] = function(_Part(desk, place, sizes[block], operator))
        except _Stopped:
            pass
        except BaseException as error:
            desk.fail(error)
        finally:
            desk.leave()

    threads = [Thread(target=work, args=(place,), daemon=True) for place in range(len(tasks))]
    for thread in threads:
        thread.start()
    passes = 0
    try:
        with derivatives_on():  # an image that a caller's inference mode has marked could not be changed in a thread
            while asked := desk.requests():
                desk.answer(_product(operator, sizes, {place: (tasks[place][0], v) for place, v in asked.items()}))
                passes += 1
                told()
    except BaseException as error:  # an interrupt too: no thread may be left waiting
        desk.fail(error)
    for thread in threads:
        thread.join()
    if desk.failure is not None:
        raise desk.failure
    return results, passes


class _Stopped(Exception):  # noqa: N818  (no error: it unwinds the tasks that another one's failure ends)
    pass


class _Desk:
    """Where tasks leave the vectors they want multiplied and wait for the images."""

    def __init__(self, count: int) -> None:
        self.changed = Condition()
        self.at_work = count
        self.asked: dict[int, Block] = {}
        self.images: dict[int, Block] = {}
        self.failure: BaseException | None = None

    def ask(self, place: int, block: Block) -> Block:
        with self.changed:
            self.asked[place] = block
            self.changed.notify_all()
            self.changed.wait_for(lambda: place in self.images or self.failure is not None)
            if self.failure is not None:
                raise _Stopped
            return self.images.pop(place)

    def requests(self) -> dict[int, Block]:
        """What all tasks at work ask for, in their order; empty when all have ended or one failed."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.asked) == self.at_work or self.failure is not None)
            asked, self.asked = self.asked, {}
            return {} if self.failure is not None else dict(sorted(asked.items()))

    def answer(self, images: dict[int, Block]) -> None:
        with self.changed:
            self.images |= images
            self.changed.notify_all()

    def leave(self) -> None:
        with self.changed:
            self.at_work -= 1
            self.changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()


class _Part(CurvatureOperator):
    """One block, as the task that runs on it sees it."""

    def __init__(self, desk: _Desk, place: int, size: int, whole: CurvatureOperator) -> None:
        super().__init__(size, whole.dtype, whole.device)
        self.desk, self.place, self.whole = desk, place, whole

    @property
    def verified(self) -> float | None:
        return self.whole.verified

    @property
    def columns(self) -> int:
        return self.whole.columns

    def _product(self, block: Block) -> Block:
        return self.desk.ask(self.place, block)


def _product(
    operator: CurvatureOperator, sizes: Sequence[int], asked: dict[int, tuple[int, Block]]
) -> dict[int, Block]:
    """One product for all; what tasks on one block ask for stands side by side in its rows."""
    widths = [0] * len(sizes)
    spans: dict[int, slice] = {}
    for place, (block, vectors) in asked.items():
        spans[place] = slice(widths[block], widths[block] + vectors.shape[1])
        widths[block] = spans[place].stop
    joined = torch.zeros(sum(sizes), max(widths), dtype=operator.dtype, device=operator.device)
    rows = joined.split(list(sizes))
    for place, (block, vectors) in asked.items():
        rows[block][:, spans[place]] = vectors
    image: Tensor = operator.matmat(joined)
    parts = image.split(list(sizes))
    return {place: parts[block][:, spans[place]].clone() for place, (block, _) in asked.items()}
