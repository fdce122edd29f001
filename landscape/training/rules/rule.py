"""What a training rule is, and what it may ask of the step around it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from landscape.checks import vector_like
from landscape.vectors import Layout, Vector

State = Any  # None at first; then tensors, numbers, None and dicts of these, so that it can be saved


def _adversarial(g: Tensor, g_adv: Tensor) -> Tensor:  # noqa: ARG001  (one signature for all)
    return g_adv


@dataclass(frozen=True)
class Context:
    """What a rule with `context` may ask of the step. Passes see the data and the random numbers of pass 1.

    Attributes:
        layout: where each parameter lies in (P,).
        lr: the present learning rate, that of the first parameter group.
        gradient: e to the gradient at w + e, (P,); one pass more.
        product: v to H v at w, (P,); two passes more.
    """

    layout: Layout
    lr: float
    gradient: Callable[[Vector], Vector]
    product: Callable[[Vector], Vector]


@dataclass(frozen=True)
class Rule:
    """A training rule.

    Attributes:
        name: how messages and checkpoints call it.
        perturb: (w, g, state) to (e, state), flat vectors (P,); state is None at the first step. With `layout` it is
            called as (w, g, state, layout). It must not change w or g. An e of zeros is a step of the base along g;
            None in place of e leaves pass 2 out, and `descend` gets g twice.
        descend: (g, g_adv) to d, (P,); default g_adv.
        layout: whether `perturb` must tell weights from biases, or filters, and so wants the `Layout` of w.
        context: whether both want more: perturb is then (w, g, state, context) to (e, state), and descend
            (g, g_adv, state, context) to (d, state), with a `Context`.
    """

    name: str
    perturb: Callable[..., tuple[Tensor | None, State]]
    descend: Callable[..., Any] = _adversarial
    layout: bool = False
    context: bool = False

    @property
    def forgets_g(self) -> bool:
        """Whether d follows from pass 2 alone, so that g need not be kept through it."""
        return self.descend is _adversarial

    def find_perturbation(self, w: Vector, g: Vector, state: State, context: Context) -> tuple[Tensor | None, State]:
        """`perturb` with as many of these as it takes."""
        more = (context,) if self.context else (context.layout,) if self.layout else ()
        return self.perturb(w, g, state, *more)

    def find_direction(self, g: Tensor, g_adv: Vector, state: State, context: Context) -> tuple[Tensor, State]:
        """`descend` with as many of these as it takes; g (P,) may be empty where the rule forgets it."""
        return self.descend(g, g_adv, state, context) if self.context else (self.descend(g, g_adv), state)


def steps_done(state: State) -> int:
    """Steps that a rule which counts them, as state["step"], has behind it."""
    return state["step"] if state else 0


def vector_from(name: str, v: Tensor, g: Vector) -> Vector:
    """A vector from the user's callable, on g's device and in its dtype. Raises ValueError unless it is (P,)."""
    v = v.detach().to(g)
    vector_like(name, v, g)
    return v
