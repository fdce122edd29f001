"""One step of a two-pass rule around any torch optimiser.

Pass 1 at w gives g; the rule gives e; pass 2 at w + e gives g_adv; w is put back bit for bit; the base optimiser steps
with d = descend(g, g_adv). Weight decay is the base's: it acts at w and is no part of e.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from landscape.checks import integer_in, positive, require
from landscape.processes import ProcessGroup
from landscape.training.rules import Rule, State
from landscape.training.rules.rule import PLAIN
from landscape.training.sharpness_aware.carried import Progress, carried, of_version_0_1
from landscape.training.sharpness_aware.gradients import Gradients, ScalerReport, clipped, finite
from landscape.training.sharpness_aware.m_sharpness import MSharpnessPasses
from landscape.training.sharpness_aware.optimised import OptimisedParameters, at_rest, own_radii, shapes_in
from landscape.training.sharpness_aware.passes import Closure, Passes, closures_of
from landscape.training.sharpness_aware.perturbation import AfterFirstPass, Gradient, Perturbation, no_more_passes
from landscape.training.sharpness_aware.wrapper import OptimizerWrapper, parameters_in, require_no_sync
from landscape.vectors import Vector, is_synchronous

Beside = tuple[bool, Vector | None]  # whether the base is to step, and u: the weights move by −lr u besides


@dataclass(frozen=True)
class _Between:
    """State that `first_step` leaves to `second_step`."""

    perturbation: Perturbation
    after: AfterFirstPass
    way_back: ExitStack


class SharpnessAware(OptimizerWrapper):
    """A torch optimiser that steps along the direction of a `Rule`.

    It shares parameter groups and state with the base optimiser, so that learning-rate schedulers work on it. The flat
    vector holds the parameters that require grad, in the order of the parameter groups. Through pass 2, SAM keeps one
    copy of the parameters in memory, a rule that mixes both gradients two, m-sharpness four.

    `step(closure)` makes the passes itself: all see the same random numbers (dropout masks), and only pass 1 updates
    buffers (batch-norm statistics). Gradient accumulation belongs into the closure, so that every part of a pass sees
    the same weights; so does autocast. A NaN or infinite gradient in either pass, on any rank, skips the whole step;
    the first such step warns.

    Loops may keep their two calls, `first_step` and `second_step`. A parameter group may have a radius of its own,
    {"params": norms, "rho": 0}, where e is proportional to the rule's: e is scaled by the ratio of both (Adadelta has a
    rho of its own: there it is not read). Parameters may be frozen, thawed and added: what a rule has kept follows
    their names, and a periodic rule looks anew at once. torch's step hooks run once for each step of the base.

    With DistributedDataParallel both passes are all-reduced as usual, and all ranks have the same e. With `per_rank`
    each has its own, from its own batch (m-sharpness): passes run under `model.no_sync()`, one all-reduce then averages
    g and g_adv over the ranks, and rules see these means in `descend`. Statistics of batch norm are then each rank's.
    Under FSDP2 (`fully_shard`) g is gathered: each rank holds the rule's vectors whole, and e has the global norm.

    Args:
        base_optimizer: takes the step; its learning rate, momentum and weight decay are used.
        rule: from `landscape.training.rules`, or a `Rule` of one's own.
        model: owns the parameters and the buffers.
        max_norm: to which the direction of the step is clipped, and not the gradients that it is made of; None: not.
        per_rank: an e for each rank; the model must be a DistributedDataParallel.
        every: the rule's step every so many steps, the first among them, and between them the base's alone.
        twice: pass 2 is made at each step, at w where there is no e, and its gradient is g then: for closures that are
            another function there, such as `objectives.AdversarialInputs`.
    Raises:
        ValueError: if the base optimises a parameter that is not the model's, or is complex or sparse; if it does not
            step along `.grad` alone, as LBFGS does not; if an argument is out of range.
    """

    copied = ("base", "rule", "model", "max_norm", "per_rank", "every", "twice", "progress")

    def __init__(
        self,
        base_optimizer: torch.optim.Optimizer,
        rule: Rule,
        *,
        model: nn.Module,
        max_norm: float | None = None,
        per_rank: bool = False,
        every: int = 1,
        twice: bool = False,
    ) -> None:
        if max_norm is not None:
            positive("max_norm", max_norm)
        integer_in("every", every, 1)
        if per_rank:
            require_no_sync(model)
        self.rule, self.model, self.max_norm, self.per_rank = rule, model, max_norm, per_rank
        self.every, self.twice, self.progress = every, twice, Progress()
        super().__init__(base_optimizer)
        self._optimised.check(p for group in self.param_groups for p in group["params"])

    def _set_up(self) -> None:
        super()._set_up()
        self._optimised = OptimisedParameters(self.model)
        self._group: ProcessGroup | None = None
        self._around: Callable[[], AbstractContextManager[Any]] = nullcontext
        if isinstance(self.model, DistributedDataParallel) and self.per_rank:
            self._group, self._around = self.model.process_group, self.model.no_sync
        self._between: _Between | None = None
        self._report, self._warned = ScalerReport(), False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base. Raises ValueError if a parameter is not the model's."""
        given = param_group["params"]
        given = given if isinstance(given, Tensor) else list(given)
        self._optimised.check(parameters_in(given))
        super().add_param_group({**param_group, "params": given})

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
        if closure is None and at_rest(self.param_groups):
            self.base.step()
            return None
        loss, beside = self._direct(closure, sizes, scaler)
        self._step(beside)
        return loss

    def direction(self, closure: Closure) -> Any:
        """`step` without the base's: leaves d in `.grad`, for loops that clip and step by themselves.

            loss = opt.direction(closure)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.base.step()

        Where a gradient is not finite no `.grad` is left, so that the base finds nothing to do.

        Raises:
            ValueError: also for a rule that moves the weights beside the base's step.
        """
        require(
            self.rule.beside is None,
            f"rule {self.rule.name!r} moves the weights beside the base's step, which .grad cannot hold; "
            "use step(closure), or the rule's coupled form",
        )
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
        g = perturbation.gradients.read()
        if zero_grad:
            self.zero_grad()
        with ExitStack() as stack:
            after = stack.enter_context(perturbation.displace(g, no_more_passes))
            self._between = _Between(perturbation, after, stack.pop_all())
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
        self.restore()
        g_adv = perturbation.gradients.read() if after.moved else after.g
        self._step(self._finish(perturbation, after, g_adv, no_more_passes))
        self._opt_called = True  # schedulers ask whether a step was made before theirs
        if zero_grad:
            self.zero_grad()

    def restore(self) -> None:
        """Go back to w and to the buffers of pass 1, and forget `first_step`; nothing where there was none."""
        if self._between is not None:
            self._between.way_back.close()
            self._between = None

    @property
    def rule_state(self) -> State:
        """What the rule has kept: None at first."""
        return self.progress.state

    def __getstate__(self) -> dict[str, Any]:
        require(self._between is None, "SharpnessAware must not be copied between first_step and second_step")
        return super().__getstate__()

    def own_state(self) -> dict[str, Any]:
        """The rule's name and state, the parameters that the state is of, and the steps made."""
        return {"rule": self.progress.saved(self.rule.name)}

    def split_state(self, state_dict: dict[str, Any]) -> tuple[dict[str, Any], Callable[[], None]]:
        """Raises ValueError if the state is that of another rule. A base's own leaves the rule at its beginning."""
        if {"base", "rule_state"} <= state_dict.keys():
            state_dict = of_version_0_1(state_dict, shapes_in(self._optimised.present(self.param_groups)[1]))
        own = state_dict.pop("rule", None) or Progress().saved(self.rule.name)
        require(own["name"] == self.rule.name, f"state must be of rule {self.rule.name!r}, got {own['name']!r}")
        progress = Progress.of(own, self.param_groups[0]["params"][0].device)
        return state_dict, partial(setattr, self, "progress", progress)

    def _start(self, scaler: torch.amp.GradScaler | None) -> Perturbation:
        self.require_outside()
        require(self._between is None, "first_step was called before: call second_step, or restore() to go back to w")
        parameters, layout = self._optimised.present(self.param_groups)
        lr, gradients = float(self.param_groups[0]["lr"]), Gradients(parameters, scaler, (self, self.base))
        rule, state, radii = PLAIN, None, None
        if self.progress.steps % self.every == 0:
            rule, state = self.rule, carried(self.rule_state, self.progress.shapes, shapes_in(layout))
            radii = None if "rho" in self.defaults else own_radii(self.param_groups, self.rule)
        return Perturbation(rule, state, self.model, gradients, layout, lr, radii, self.twice)

    def _direct(
        self,
        closure: Closure | Sequence[Closure] | None,
        sizes: Sequence[float] | None,
        scaler: torch.amp.GradScaler | None,
    ) -> tuple[Any, Beside]:
        """Make the passes and put d into `.grad`: the closures' returns in pass 1, and the move beside the step."""
        perturbation, closures = self._start(scaler), closures_of(closure, sizes)
        passes = [Passes(each, self.model, perturbation.gradients, self._around) for each in closures]
        with self.closures(), torch.enable_grad():
            plain = len(passes) == 1 and self._group is None
            whole = passes[0] if plain else MSharpnessPasses(passes, sizes or [1.0] * len(passes), self._group)
            beside = self._finish(perturbation, *whole.explore(perturbation), whole.at)
        return passes[0].loss if callable(closure) else [each.loss for each in passes], beside

    def _finish(self, perturbation: Perturbation, after: AfterFirstPass, g_adv: Vector, at: Gradient) -> Beside:
        """Put d, clipped, into `.grad`: (True, how the weights move besides); (False, None) if it is not finite."""
        gradients, u = perturbation.gradients, None
        fine = not (at_once := is_synchronous(g_adv)) or self._fine("pass 2" if after.moved else "pass 1", g_adv)
        if fine:
            u = perturbation.beside(after, g_adv)
            d, state = perturbation.descend(after, g_adv, at)
            fine = (d is g_adv and at_once) or self._fine("the step", d, g_adv)
        if fine:
            gradients.write(d if self.max_norm is None else clipped(d, self.max_norm))
            self.progress.steps += 1
            if perturbation.rule is not PLAIN:
                self.progress.state, self.progress.shapes = state, shapes_in(perturbation.layout)
        self._report.tell(gradients.scaler, fine, g_adv.device)
        return fine, u

    def _step(self, beside: Beside) -> None:
        fine, u = beside
        if fine:
            self.base.step()
        if fine and u is not None:
            self._optimised.move_along(u, self.param_groups)

    def _fine(self, where: str, *gradients: Vector) -> bool:
        if not (fine := finite(*gradients)) and not self._warned:
            self._warned = True
            warnings.warn(
                f"the gradient of {where} is not finite: step skipped (reported once); lower the learning rate or rho",
                stacklevel=5,
            )
        return fine
