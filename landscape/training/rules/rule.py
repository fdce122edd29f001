"""What a training rule is, and what it may ask of the step around it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.checks import vector_like
from landscape.vectors import Layout, Vector, unit

State = Any  # None at first; then tensors, numbers, None and dicts of these, so that it can be saved


def _adversarial(g: Tensor, g_adv: Tensor) -> Tensor:  # noqa: ARG001  (one signature for all)
    return g_adv


def adversarial(_g: Tensor, g_adv: Tensor, state: State, _context: "Context") -> tuple[Tensor, State]:
    """`descend` of rules with `context` that step along g_adv."""
    return g_adv, state


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
        rho: where e is rho times what does not depend on it; a parameter group may then have a `rho` of its own. None:
            it may not.
        out: whether both take `out=`, a tensor that e or d may be written into: g itself where `descend` does not need
            it any more, or g_adv.

        beside: (g, g_adv) to u, (P,): after the base's step along d the weights move by −lr u besides, with the
            learning rate of each parameter's group.

    Functions at the top level of a module, bound by `functools.partial`, can be copied and pickled with the optimiser.

    Where parameters have been thawed, added or frozen since the last step, tensors (..., P) of the state are carried
    over by the parameters' names, with 0 at new entries, and a state that is a dict has an entry "new", (P,): True at
    these. `perturb` leaves it out of the state that it returns.
    """

    name: str
    perturb: Callable[..., tuple[Tensor | None, State]]
    descend: Callable[..., Any] = _adversarial
    layout: bool = False
    context: bool = False
    rho: float | None = None
    out: bool = False
    beside: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def draws_nothing(self) -> bool:
        """Whether `perturb` is one of those here, which leave the global random state alone."""
        return getattr(self.perturb, "func", self.perturb) in (_stay, along, along_with_context)

    @property
    def forgets_g(self) -> bool:
        """Whether d follows from pass 2 alone, so that g need not be kept through it."""
        return self.descend in (_adversarial, adversarial) and self.beside is None

    def find_perturbation(
        self, w: Vector, g: Vector, state: State, context: Context, out: Tensor | None = None
    ) -> tuple[Tensor | None, State]:
        """`perturb` with as many of these as it takes."""
        more = (context,) if self.context else (context.layout,) if self.layout else ()
        return self.perturb(w, g, state, *more, **({"out": out} if self.out else {}))

    def find_direction(
        self, g: Tensor, g_adv: Tensor, state: State, context: Context, out: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """`descend` with as many of these as it takes; g (P,) may be empty where the rule forgets it."""
        if self.context:
            return self.descend(g, g_adv, state, context)
        return self.descend(g, g_adv, **({"out": out} if self.out and not self.forgets_g else {})), state


def steps_done(state: State) -> int:
    """Steps that a rule which counts them, as state["step"], has behind it."""
    return state["step"] if state else 0


def _stay(_w: Vector, _g: Vector, state: State) -> tuple[None, State]:
    return None, state


PLAIN = Rule("plain", _stay)  # one pass, and the base's step along g


def due(state: State, period: int) -> bool:
    """Whether a periodic rule is to look anew: every `period` steps, and where parameters have come or gone."""
    return steps_done(state) % period == 0 or "new" in (state or {})


def source_at(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The random numbers of that step alone: the global state would give a network without dropout the same ones at
    every step, and a resumed run others."""
    mixed = int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(mixed)


def along(w: Vector, g: Vector, state: State, *, rho: float, out: Tensor | None = None) -> tuple[Vector, State]:  # noqa: ARG001
    """`perturb` of the rules that take SAM's e = rho ĝ."""
    return unit(g, out=out).mul_(rho), state


def along_with_context(w: Vector, g: Vector, state: State, _context: Context, *, rho: float) -> tuple[Vector, State]:
    """The same for rules that want more in `descend`."""
    return along(w, g, state, rho=rho)


def vector_from(name: str, v: Tensor, g: Vector) -> Vector:
    """A vector from the user's callable, on g's device and in its dtype. Raises ValueError unless it is (P,)."""
    v = v.detach().to(g)
    vector_like(name, v, g)
    return v
