"""From w to the w + e of a rule, and back bit for bit."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from landscape.autograd.central_difference import central_difference
from landscape.checks import require, vector_like
from landscape.side_effects import buffers_kept, random_state_kept
from landscape.training.rules import Context, Rule, State
from landscape.training.sharpness_aware.gradients import Gradients, finite
from landscape.vectors import Layout, Vector, displaced, flatten, is_synchronous, unit

Gradient = Callable[[Vector], Vector]  # e to the gradient at w + e


@dataclass(frozen=True)
class AfterFirstPass:
    """State of a step between pass 1 and pass 2.

    Attributes:
        g: gradient of pass 1, (P,); empty where d follows from pass 2 alone, so that its memory is free for that pass.
        state: the rule's next one.
        moved: whether there is a pass 2.
        plain: e is zero: the base steps along g.
        still: there is no e: where pass 2 is made all the same, at w, its gradient stands for g too.
    """

    g: Vector
    state: State
    moved: bool
    plain: bool
    still: bool = False

    def gradient(self, g_adv: Tensor) -> Tensor:
        """What stands for g beside g_adv."""
        return g_adv if self.still else self.g


@dataclass(frozen=True)
class Perturbation:
    """A rule at one step.

    Attributes:
        rule, state: the rule and its state before the step.
        model: owns the buffers.
        gradients: of the parameters, which are at w.
        layout: of (P,).
        lr: the present learning rate.
        radii: of each parameter, over the rule's; None: all are 1.
        twice: pass 2 is made also where there is no e.
    """

    rule: Rule
    state: State
    model: nn.Module
    gradients: Gradients
    layout: Layout
    lr: float
    radii: Sequence[float] | None = None
    twice: bool = False

    @contextmanager
    def displace(self, g: Vector, at: Gradient, keep: bool = False) -> Iterator[AfterFirstPass]:
        """At w + e for the length of the block, where there is a pass 2; buffers are put back in any case."""
        w, forgets = flatten(self.gradients.parameters), self.rule.forgets_g and not keep
        unasked = not is_synchronous(g) and self.rule.rho is not None  # e = 0 then makes a pass 2 at w
        written = forgets and self.rule.out and bool(self.rule.rho) and self.radii is None
        written = written and (unasked or bool(g.any()))
        e, state = self._perturbed(w, g, at, out=g if written else None)
        shift = e if e is not None and (self.rule.rho if unasked else e.any()) else None
        require(
            shift is not None or not written or e is None,
            f"e of rule {self.rule.name!r} must not round to 0, got rho={self.rule.rho!r}; raise rho, or set it to 0",
        )
        after = AfterFirstPass(
            g=g.new_empty(0) if forgets and shift is not None else g,
            state=state,
            moved=shift is not None or (self.twice and (unasked or finite(g))),
            plain=e is not None and shift is None,
            still=shift is None,
        )
        way = nullcontext() if shift is None else displaced(self.gradients.parameters, shift, w)
        with buffers_kept(self.model), way:
            if shift is not None:
                _tell_if_rounded(self.gradients.parameters, w, shift)
            del w, g, e, shift  # their memory is free for the pass
            yield after

    def perturb(self, g: Vector, at: Gradient) -> tuple[Vector | None, State]:
        """The rule's e and next state. A g that is not finite leads nowhere: the step will be skipped.

        A GPU is not asked for g: an e that is not finite has a g_adv that is not finite.
        """
        return self._perturbed(flatten(self.gradients.parameters), g, at, out=None)

    def _perturbed(self, w: Vector, g: Vector, at: Gradient, out: Vector | None) -> tuple[Vector | None, State]:
        if is_synchronous(g) and not finite(g):
            return None, self.state
        with nullcontext() if self.rule.draws_nothing else random_state_kept(), _no_casts(g):
            e, state = self.rule.find_perturbation(w, g, self.state, self._context(at), out)
        if e is not None:
            vector_like(f"e of rule {self.rule.name!r}", e, w)
            if self.radii is not None:
                e = e.clone()
                for piece, ratio in zip(e.split(self.layout.sizes), self.radii, strict=True):
                    piece.mul_(ratio)
        return e, state

    def beside(self, after: AfterFirstPass, g_adv: Vector) -> Vector | None:
        """How the weights move beside the base's step, over −lr."""
        if self.rule.beside is None or after.plain:
            return None
        return self.rule.beside(after.gradient(g_adv), g_adv)

    def descend(self, after: AfterFirstPass, g_adv: Vector, at: Gradient) -> tuple[Vector, State]:
        """The direction of the step, (P,), and the rule's next state."""
        if after.plain:
            return g_adv, after.state
        with nullcontext() if self.rule.forgets_g else random_state_kept(), _no_casts(g_adv):
            g = after.gradient(g_adv)
            d, state = self.rule.find_direction(g, g_adv, after.state, self._context(at), out=g_adv)
        vector_like(f"d of rule {self.rule.name!r}", d, g_adv)
        return d, state

    def _context(self, at: Gradient) -> Context:
        return Context(self.layout, self.lr, at, partial(_product, at))


def no_more_passes(_e: Vector) -> Vector:
    """In place of `Passes.at` where the passes are the user's."""
    raise ValueError("this rule needs more than two passes, which first_step and second_step lack; use step(closure)")


def _tell_if_rounded(parameters: Sequence[Tensor], w: Vector, e: Vector) -> None:
    """Warn where weights of few digits round most of e away, so that the rule's step is nearly the base's."""
    if all(p.dtype not in (torch.bfloat16, torch.float16) for p in parameters):
        return
    if float((flatten(parameters) - w) @ e) < 0.5 * float(e @ e):
        warnings.warn(
            "weights in half precision round more than half of e away: the step is nearly that of the base; keep the "
            "weights in float32 and take torch.autocast, or raise rho",
            stacklevel=7,
        )


def _no_casts(v: Vector) -> torch.autocast:
    """A rule's inner products in full, also where the user's autocast block is around the whole step."""
    return torch.autocast(v.device.type, enabled=False)


def _product(at: Gradient, v: Vector) -> Vector:
    """H v at w, (P,), by a central difference of two gradients.

    |v| (∇L(w + hu) − ∇L(w − hu)) / 2h + O(h²), u = v/|v|, h = eps^(1/3): two passes, where double backward takes the
    time of two to three and a graph that the closure, whose backward has freed it, does not leave; and passes serve
    accumulation, mixed precision and attention kernels. Weights in float16 or bfloat16 round such small moves away.
    """
    u, h = unit(v), torch.finfo(v.dtype).eps ** (1 / 3)
    return v.norm() * central_difference(lambda t: at(t * u), h)[0]
