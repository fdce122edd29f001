"""One step of a two-pass rule around any torch optimiser.

Pass 1 at w gives g; the rule gives e; pass 2 at w + e gives g_adv; w is put back bit for bit; the base optimiser steps
with d = descend(g, g_adv). Weight decay is the base's: it acts at w and is no part of e.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from landscape.checks import positive, require
from landscape.processes import ProcessGroup
from landscape.training.rules import Rule, State
from landscape.training.sharpness_aware.gradients import Gradients, ScalerReport, finite
from landscape.training.sharpness_aware.m_sharpness import MSharpnessPasses
from landscape.training.sharpness_aware.passes import Closure, Passes
from landscape.training.sharpness_aware.perturbation import AfterFirstPass, Gradient, Perturbation, no_more_passes
from landscape.vectors import Layout, Vector, layout_of


@dataclass(frozen=True)
class _Between:
    """State that `first_step` leaves to `second_step`."""

    perturbation: Perturbation
    after: AfterFirstPass
    way_back: ExitStack


class SharpnessAware(torch.optim.Optimizer):
    """A torch optimiser that steps along the direction of a `Rule`.

    It shares parameter groups and state with the base optimiser, so that learning-rate schedulers work on it. The flat
    vector holds the parameters that require grad, in the order of the parameter groups. Through pass 2, SAM keeps one
    copy of the parameters in memory, a rule that mixes both gradients two, m-sharpness four.

    `step(closure)` makes the passes itself: all see the same random numbers (dropout masks), and only pass 1 updates
    buffers (batch-norm statistics). Gradient accumulation belongs into the closure, so that every part of a pass sees
    the same weights; so does autocast. A NaN or infinite gradient in either pass, on any rank, skips the whole step;
    the first such step warns.

    Existing loops may keep their two calls, `first_step` and `second_step`.

    With DistributedDataParallel both passes are all-reduced as usual, and all ranks have the same e. With `per_rank`
    each has its own, from its own batch (m-sharpness): passes run under `model.no_sync()`, one all-reduce then averages
    g and g_adv over the ranks, and rules see these means in `descend`. Statistics of batch norm are then each rank's.

    Args:
        base_optimizer: takes the step; its learning rate, momentum and weight decay are used.
        rule: from `landscape.training.rules`, or a `Rule` of one's own.
        model: owns the parameters and the buffers.
        max_norm: to which the direction of the step is clipped, and not the gradients that it is made of; None: not.
        per_rank: an e for each rank; the model must be a DistributedDataParallel.
    Raises:
        ValueError: if the base optimises a parameter that is not the model's, or an argument is out of range.
    """

    def __init__(
        self,
        base_optimizer: torch.optim.Optimizer,
        rule: Rule,
        *,
        model: nn.Module,
        max_norm: float | None = None,
        per_rank: bool = False,
    ) -> None:
        layout = layout_of(model)
        self._labels = {
            id(p): label
            for (_, p), label in zip(
                model.named_parameters(),
                zip(layout.names, layout.is_weight, layout.is_norm, strict=True),
                strict=True,
            )
        }
        if max_norm is not None:
            positive("max_norm", max_norm)
        self._group: ProcessGroup | None = None
        self._around: Callable[[], AbstractContextManager[Any]] = nullcontext
        if per_rank:
            if not isinstance(model, DistributedDataParallel):
                raise ValueError(f"per_rank needs a DistributedDataParallel as model, got {type(model).__name__}")
            self._group, self._around = model.process_group, model.no_sync
        super().__init__([dict(group) for group in base_optimizer.param_groups], base_optimizer.defaults)
        self.base, self.rule, self.model, self.max_norm = base_optimizer, rule, model, max_norm
        self.rule_state: State = None
        self._between: _Between | None = None
        self._report, self._warned = ScalerReport(), False
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

    def step(
        self,
        closure: Closure | Sequence[Closure] | None = None,
        *,
        sizes: Sequence[float] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> Any:
        """Two passes and the base's step; one pass where the perturbation is zero.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss. Several closures are
                as many parts of the batch, each with an e of its own (m-sharpness); the rule's state advances once, by
                the mean gradient, while callables of a rule (Eigen-SAM's `top`) are asked for each part and for that.
            sizes: samples in each closure's part; default: all the same.
            scaler: with it closures call `scaler.scale(loss).backward()`, no more; gradients are unscaled before e is
                built, and `scaler.update()` is due after each step, as in any loop.
        Returns:
            What the closure returned in pass 1; of several closures a list.
        Raises:
            ValueError: without a closure, if sizes do not fit, or if the rule gives no (P,).
        """
        loss, fine = self._direct(closure, sizes, scaler)
        if fine:
            self.base.step()
        return loss

    def direction(self, closure: Closure) -> Any:
        """`step` without the base's: leaves d in `.grad`, for loops that clip and step by themselves.

            loss = opt.direction(closure)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.base.step()

        Where a gradient is not finite no `.grad` is left, so that the base finds nothing to do.
        """
        return self._direct(closure, None, None)[0]

    def first_step(self, zero_grad: bool = True, *, scaler: torch.amp.GradScaler | None = None) -> bool:
        """After the backward pass at w: keep g and w, and move the weights to w + e.

            loss.backward()
            opt.first_step()
            criterion(model(inputs), targets).backward()  # pass 2, at w + e
            opt.second_step()

        If something raises between both calls, `restore()` goes back to w. Dropout draws new masks in pass 2, unless
        you take `rewind = landscape.side_effects.random_state()` before pass 1 and call `rewind()` before pass 2.
        Batch-norm statistics are handled: `second_step` puts back those of pass 1.

        Args:
            zero_grad: clear the gradients, which pass 2 would add to.
            scaler: as in `step`.
        Returns:
            Whether pass 2 is needed. If not (LookSAM between its periods, radius 0), the weights are still at w, and
            what is done until `second_step` has no effect.
        Raises:
            ValueError: after another `first_step`; with `per_rank`; if the rule needs more passes than two.
        """
        require(self._group is None, "per_rank has no two-call form; use step(closure)")
        perturbation = self._start(scaler)
        with ExitStack() as stack:
            after = stack.enter_context(perturbation.displace(perturbation.gradients.read(), no_more_passes))
            self._between = _Between(perturbation, after, stack.pop_all())
        if zero_grad:
            self.zero_grad()
        return after.moved

    def second_step(self, zero_grad: bool = False) -> None:
        """After the backward pass at w + e: put w and the buffers back, bit for bit, and step.

        Args:
            zero_grad: clear the gradients afterwards.
        Raises:
            ValueError: without `first_step`; if the rule needs more passes than two.
        """
        if self._between is None:
            raise ValueError("second_step needs first_step before it: loss.backward(); opt.first_step()")
        perturbation, after = self._between.perturbation, self._between.after
        g_adv = perturbation.gradients.read() if after.moved else after.g
        self.restore()
        if self._finish(perturbation, after, g_adv, no_more_passes):
            self.base.step()
        self._opt_called = True  # what schedulers look at to see whether a step was made before theirs
        if zero_grad:
            self.zero_grad()

    def restore(self) -> None:
        """Go back to w and to the buffers of pass 1, and forget `first_step`; nothing where there was none."""
        if self._between is not None:
            self._between.way_back.close()
            self._between = None

    def state_dict(self) -> dict[str, Any]:
        """The base's state and the rule's; loadable with `torch.load(..., weights_only=True)`."""
        return {"base": self.base.state_dict(), "rule": self.rule.name, "rule_state": self.rule_state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict()` was taken. Raises ValueError if that was another rule."""
        found = state_dict.get("rule")
        require(found == self.rule.name, f"state must be of rule {self.rule.name!r}, got {found!r}")
        self.base.load_state_dict(state_dict["base"])
        self._share()
        self.rule_state = _move(state_dict["rule_state"], self.param_groups[0]["params"][0].device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.rule.name}, {self.base!r})"

    def _share(self) -> None:
        self.param_groups, self.state, self.defaults = self.base.param_groups, self.base.state, self.base.defaults

    def _start(self, scaler: torch.amp.GradScaler | None) -> Perturbation:
        require(self._between is None, "first_step was called before: call second_step, or restore() to go back to w")
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        require(bool(parameters), "the optimiser must hold a parameter that requires grad, got none")
        names, is_weight, is_norm = zip(*(self._labels[id(p)] for p in parameters), strict=True)
        layout = Layout(names, tuple(p.shape for p in parameters), is_weight, is_norm)
        lr = float(self.param_groups[0]["lr"])
        return Perturbation(self.rule, self.rule_state, self.model, Gradients(parameters, scaler), layout, lr)

    def _direct(
        self,
        closure: Closure | Sequence[Closure] | None,
        sizes: Sequence[float] | None,
        scaler: torch.amp.GradScaler | None,
    ) -> tuple[Any, bool]:
        """Make the passes: the closures' returns in pass 1, and whether d is in `.grad`."""
        closures = [closure] if callable(closure) else list(closure or [])
        _check_closures(closures, sizes)
        perturbation = self._start(scaler)
        passes = [Passes(each, self.model, perturbation.gradients, self._around) for each in closures]
        with torch.enable_grad():
            plain = len(passes) == 1 and self._group is None
            whole = passes[0] if plain else MSharpnessPasses(passes, sizes or [1.0] * len(passes), self._group)
            fine = self._finish(perturbation, *whole.explore(perturbation), whole.at)
        return passes[0].loss if callable(closure) else [each.loss for each in passes], fine

    def _finish(self, perturbation: Perturbation, after: AfterFirstPass, g_adv: Vector, at: Gradient) -> bool:
        """Put d, clipped, into `.grad`; False if a gradient is not finite."""
        gradients = perturbation.gradients
        fine = self._fine(g_adv, "pass 2" if after.moved else "pass 1")
        if fine:
            d, state = perturbation.descend(after, g_adv, at)
            fine = d is g_adv or self._fine(d, "the step")
        if fine:
            gradients.write(d if self.max_norm is None else _clip(d, self.max_norm))
            self.rule_state = state
        self._report.tell(gradients.scaler, fine, g_adv.device)
        return fine

    def _fine(self, gradient: Vector, where: str) -> bool:
        fine = finite(gradient)
        if not fine and not self._warned:
            self._warned = True
            warnings.warn(
                f"the gradient of {where} is not finite: step skipped (reported once); lower the learning rate or rho",
                stacklevel=5,
            )
        return fine


def _check_closures(closures: Sequence[Closure], sizes: Sequence[float] | None) -> None:
    require(
        bool(closures),
        "step needs a closure: "
        "def closure(): opt.zero_grad(); loss = criterion(model(x), y); loss.backward(); return loss",
    )
    require(
        sizes is None or (len(sizes) == len(closures) and min(sizes) > 0),
        f"sizes must be {len(closures)} positive numbers, one a closure, got {sizes}",
    )


def _clip(d: Vector, max_norm: float) -> Vector:
    """d, shortened as by `clip_grad_norm_`, which takes no sparse gradients."""
    return d * (max_norm / (d.norm() + 1e-6)).clamp(max=1.0)


def _move(state: State, device: torch.device) -> State:
    """A rule's state with its tensors on `device`."""
    if isinstance(state, dict):
        return {key: _move(value, device) for key, value in state.items()}
    return state.to(device) if isinstance(state, Tensor) else state
