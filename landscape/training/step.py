"""One step of a two-pass rule around any torch optimiser.

Pass 1 at w gives g; the rule gives e; pass 2 at w + e gives g_adv; w is put back bit for bit; the base optimiser steps
with d = descend(g, g_adv). Weight decay is the base's: it acts at w and is no part of e.

A rule with a `Context` may ask for more passes, all of them through the closure. So its Hessian products are central
differences, H v = |v| (∇L(w + hu) − ∇L(w − hu)) / 2h + O(h²), u = v/|v|, h = eps^(1/3): two passes, where double
backward takes the time of two to three and a graph that the closure, whose backward has freed it, does not leave; and
they serve accumulation, mixed precision and attention kernels as every pass does. Weights in float16 or bfloat16
round such small moves away.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import require, vector_like
from landscape.isolation import buffers_kept, random_state, random_state_kept
from landscape.training.rules import Context, Rule, State
from landscape.vectors import Layout, Vector, displaced, flatten, layout_of, unit

Closure = Callable[[], Any]


class SharpnessAware(torch.optim.Optimizer):
    """A torch optimiser that steps along the direction of a `Rule`.

    It shares parameter groups and state with the base optimiser, so that learning-rate schedulers work on it. Both
    passes see the same random numbers (dropout masks); buffers (batch-norm statistics) are updated by pass 1 only.
    The flat vector holds the parameters that require grad, in the order of the parameter groups.

    Gradient accumulation belongs into the closure, so that every part of a pass sees the same weights. To clip the
    gradient of the step, and not those that it is made of, register a pre-hook: `base.register_step_pre_hook(...)`.

    Args:
        base_optimizer: takes the step; its learning rate, momentum and weight decay are used.
        rule: from `landscape.training.rules`, or a `Rule` of one's own.
        model: owns the parameters and the buffers.
    Raises:
        ValueError: if the base optimises a parameter that is not the model's.
    """

    def __init__(self, base_optimizer: torch.optim.Optimizer, rule: Rule, *, model: nn.Module) -> None:
        layout = layout_of(model)
        self._labels = {
            id(p): label
            for (_, p), label in zip(
                model.named_parameters(),
                zip(layout.names, layout.is_weight, layout.is_norm, strict=True),
                strict=True,
            )
        }
        super().__init__([dict(group) for group in base_optimizer.param_groups], base_optimizer.defaults)
        self.base, self.rule, self.model = base_optimizer, rule, model
        self.rule_state: State = None
        self._warned = False
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to this and to the base optimiser. Raises ValueError if a parameter is not the model's."""
        super().add_param_group(param_group)
        foreign = [tuple(p.shape) for p in param_group["params"] if id(p) not in self._labels]
        if foreign:
            self.param_groups.pop()
        require(
            not foreign, f"every optimised parameter must belong to model, got one of shape {foreign[:1]} that does not"
        )

    def step(self, closure: Closure | None = None) -> Any:
        """Two passes and the base's step; one pass where the perturbation is zero.

        A NaN or infinite gradient in either pass leaves the weights as they are; the first such step warns.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss.
        Returns:
            What the closure returned in pass 1.
        Raises:
            ValueError: without a closure, or if the rule gives no (P,).
        """
        if closure is None:
            raise ValueError(
                "step needs a closure: "
                "def closure(): opt.zero_grad(); loss = criterion(model(x), y); loss.backward(); return loss"
            )
        with torch.enable_grad():
            rewind = random_state()
            loss = closure()
            if self._gradient_ready(closure, rewind):
                self.base.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The base's state and the rule's; loadable with `torch.load(..., weights_only=True)`."""
        return {"base": self.base.state_dict(), "rule": self.rule.name, "rule_state": self.rule_state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict()` was taken. Raises ValueError if that was another rule."""
        found = state_dict.get("rule")
        require(found == self.rule.name, f"state must be of rule {self.rule.name!r}, got {found!r}")
        self.base.load_state_dict(state_dict["base"])
        self.rule_state = state_dict["rule_state"]
        self._share()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.rule.name}, {self.base!r})"

    def _share(self) -> None:
        self.param_groups, self.state, self.defaults = self.base.param_groups, self.base.state, self.base.defaults

    def _gradient_ready(self, closure: Closure, rewind: Callable[[], None]) -> bool:
        """Leave in `.grad` what the base is to step with; False if the step is to be skipped."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        require(bool(parameters), "the optimiser must hold a parameter that requires grad, got none")
        w, g = flatten(parameters), _gradient(parameters)
        if not self._finite(g, "pass 1"):
            return False
        unused = [p.grad is None for p in parameters]
        at = partial(self._gradient_at, closure, rewind, parameters, w)
        extra = self._extra(parameters, at)
        with random_state_kept():
            e, self.rule_state = self.rule.perturb(w, g, self.rule_state, *extra)
        if e is not None:
            vector_like(f"e of rule {self.rule.name!r}", e, w)
        d = g
        if e is None or e.any():
            g_adv = g if e is None else at(e)
            if not self._finite(g_adv, "pass 2"):
                return False
            d, state = self._descended(g, g_adv, extra)
            vector_like(f"d of rule {self.rule.name!r}", d, w)
            if not self._finite(d, "the step"):
                return False
            self.rule_state = state
        _write(parameters, d, unused)
        return True

    def _gradient_at(
        self, closure: Closure, rewind: Callable[[], None], parameters: list[Tensor], w: Vector, e: Vector
    ) -> Vector:
        """The gradient at w + e, (P,), with the random numbers of pass 1 and no effect on buffers."""
        self.zero_grad()  # also where the closure forgot it: a pass must not add to the one before
        with random_state_kept(), buffers_kept(self.model), displaced(parameters, w + e):
            rewind()
            closure()
        return _gradient(parameters)

    def _extra(self, parameters: list[Tensor], gradient: Callable[[Vector], Vector]) -> tuple[Any, ...]:
        """What the rule wants besides w, g and its state."""
        if self.rule.context:
            lr = float(self.param_groups[0]["lr"])
            return (Context(self._layout(parameters), lr, gradient, partial(_product, gradient)),)
        return (self._layout(parameters),) if self.rule.layout else ()

    def _descended(self, g: Vector, g_adv: Vector, extra: tuple[Any, ...]) -> tuple[Vector, State]:
        if self.rule.context:
            with random_state_kept():
                return self.rule.descend(g, g_adv, self.rule_state, *extra)
        return self.rule.descend(g, g_adv), self.rule_state

    def _finite(self, gradient: Vector, where: str) -> bool:
        finite = bool(gradient.isfinite().all())
        if not finite and not self._warned:
            self._warned = True
            warnings.warn(
                f"the gradient of {where} is not finite: step skipped (reported once); lower the learning rate or rho",
                stacklevel=4,
            )
        return finite

    def _layout(self, parameters: list[Tensor]) -> Layout:
        names, is_weight, is_norm = zip(*(self._labels[id(p)] for p in parameters), strict=True)
        return Layout(names, tuple(p.shape for p in parameters), is_weight, is_norm)


def _gradient(parameters: list[Tensor]) -> Vector:
    """The gradients as one vector (P,); none counts as zero."""
    return flatten([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])


def _product(gradient: Callable[[Vector], Vector], v: Vector) -> Vector:
    """H v at w, (P,), by a central difference of two gradients."""
    u, h = unit(v), torch.finfo(v.dtype).eps ** (1 / 3)
    return v.norm() * (gradient(h * u) - gradient(-h * u)) / (2 * h)


def _write(parameters: list[Tensor], d: Vector, unused: list[bool]) -> None:
    """Put d (P,) into `.grad`, except where neither pass gave a gradient."""
    pieces = d.split([p.numel() for p in parameters])
    for p, piece, without in zip(parameters, pieces, unused, strict=True):
        if p.grad is not None:
            p.grad.copy_(piece.view_as(p))
        elif not without:
            p.grad = piece.view_as(p).to(p.dtype, copy=True)
