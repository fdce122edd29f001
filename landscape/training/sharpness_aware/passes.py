"""The passes that a step makes of one closure."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from landscape.autograd.precision import autocast_now
from landscape.checks import require
from landscape.side_effects import buffers_kept, random_state, random_state_kept
from landscape.training.sharpness_aware.gradients import Gradients
from landscape.training.sharpness_aware.perturbation import AfterFirstPass, Perturbation
from landscape.vectors import Vector, displaced

Closure = Callable[[], Any]


class Passes:
    """Pass 1 is the closure's own; the others see its random numbers and have no effect on random state and buffers.

    Args:
        closure: as `SharpnessAware.step` has it.
        model: owns the buffers.
        gradients: where a pass leaves its gradient.
        around: entered for each pass.
    """

    def __init__(
        self,
        closure: Closure,
        model: nn.Module,
        gradients: Gradients,
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._closure, self._model, self._gradients, self._around = closure, model, gradients, around
        # the rules, which ask for some of the passes, work without
        self._casts = autocast_now(gradients.parameters[0].device.type)
        self.loss: Any = None  # what the closure returned in pass 1

    def explore(self, perturbation: Perturbation, keep: bool = False) -> tuple[AfterFirstPass, Vector]:
        """State after pass 1, and g_adv (P,)."""
        with perturbation.displace(self._first(), self.at, keep) as after:
            if after.moved:
                self._run_again()
        return after, self._read() if after.moved else after.g

    def at(self, e: Vector) -> Vector:
        """The gradient at w + e, (P,)."""
        with buffers_kept(self._model), displaced(self._gradients.parameters, e):
            return self._again()

    def _first(self) -> Vector:
        self._rewind = random_state()
        with self._around():
            self.loss = self._closure()
        return self._read()

    def _again(self) -> Vector:
        self._run_again()
        return self._read()

    def _run_again(self) -> None:
        with random_state_kept(), self._around(), self._casts():
            self._rewind()
            self._closure()

    def _read(self) -> Vector:
        g = self._gradients.read()
        self._gradients.clear()  # also where the closure forgets it: a pass must not add to the one before
        return g


def closures_of(closure: Closure | Sequence[Closure] | None, sizes: Sequence[float] | None) -> list[Closure]:
    """One or several. Raises ValueError where there is none, or sizes do not fit."""
    closures = [closure] if callable(closure) else list(closure or [])
    require(
        bool(closures),
        "step needs a closure: "
        "def closure(): opt.zero_grad(); loss = criterion(model(x), y); loss.backward(); return loss",
    )
    require(
        sizes is None or (len(sizes) == len(closures) and min(sizes) > 0),
        f"sizes must be {len(closures)} positive numbers, one a closure, got {sizes}",
    )
    return closures
