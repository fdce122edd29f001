"""An optimiser around another one, which has all that schedulers, scalers, hooks and checkpoints look at."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from landscape.checks import require
from landscape.training.rules import Rule
from landscape.training.sharpness_aware.copies import (
    attributes_of,
    require_copies,
    require_own_functions,
    require_picklable,
)

StepHook = Callable[[torch.optim.Optimizer, tuple[Any, ...], dict[str, Any]], Any]
HOOKS = ("state_dict_pre", "state_dict_post", "load_state_dict_pre", "load_state_dict_post")


class OptimizerWrapper(torch.optim.Optimizer):
    """Parameter groups, state, defaults and step hooks are the base's own, also where the base has been loaded anew.

    Step hooks run once for each step of the base; those that were registered here get this optimiser.
    """

    rule: Rule
    copied: Sequence[str] = ("base", "rule")  # the attributes that a copy takes along
    evaluating = False  # a closure, within a step

    def __init__(self, base: torch.optim.Optimizer) -> None:
        require_base(base)
        self.base = base
        self._set_up()

    def _set_up(self) -> None:
        """What is neither copied nor saved."""
        for name in HOOKS:
            setattr(self, f"_optimizer_{name}_hooks", OrderedDict())
        self.base.register_step_pre_hook(self.require_outside)
        self._patch_step_function()

    def _patch_step_function(self) -> None:
        """No hooks around `step` itself: those of the base's step are this optimiser's."""
        self._zero_grad_profile_name = f"Optimizer.zero_grad#{type(self).__name__}.zero_grad"

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.base.defaults

    @property
    def _optimizer_step_pre_hooks(self) -> Any:  # type: ignore[override]
        return self.base._optimizer_step_pre_hooks

    @property
    def _optimizer_step_post_hooks(self) -> Any:  # type: ignore[override]
        return self.base._optimizer_step_post_hooks

    def register_step_pre_hook(self, hook: StepHook) -> RemovableHandle:
        """Called with this optimiser before each step of the base, when `.grad` holds what it steps along."""
        return self.base.register_step_pre_hook(partial(_with, self, hook))

    def register_step_post_hook(self, hook: StepHook) -> RemovableHandle:
        """Called with this optimiser after each step of the base."""
        return self.base.register_step_post_hook(partial(_with, self, hook))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base."""
        require_descent([param_group])
        self.base.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The base's "state" and "param_groups", and an entry for each of `own_state()`."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        found: dict[str, Any] = {**self.base.state_dict(), **self.own_state()}
        for post_hook in self._optimizer_state_dict_post_hooks.values():
            changed = post_hook(self, found)
            found = found if changed is None else changed
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict()` was taken, this optimiser's or that of a plain base."""
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else dict(changed)
        of_base, load_own = self.split_state(state_dict)
        self.base.load_state_dict(of_base)
        load_own()
        for post_hook in self._optimizer_load_state_dict_post_hooks.values():
            post_hook(self)

    def __getstate__(self) -> dict[str, Any]:
        require_copies(self.base)
        return {"of_base": attributes_of(self.base)} | {name: getattr(self, name) for name in self.copied}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        vars(self.base).update(self.__dict__.pop("of_base", {}))
        self._set_up()

    def __deepcopy__(self, memo: dict[int, Any]) -> "OptimizerWrapper":
        require_own_functions(self.rule)
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        require_picklable(self.rule, self.base)
        return super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.rule.name}, {self.base!r})"

    @contextmanager
    def closures(self) -> Iterator[None]:
        """For the length of what a step evaluates."""
        self.evaluating = True
        try:
            yield
        finally:
            self.evaluating = False

    def require_outside(self, *_of_step: Any) -> None:
        """Raises ValueError within a closure."""
        require(not self.evaluating, "a closure only computes the loss and calls backward; make the step outside it")

    def own_state(self) -> dict[str, Any]:
        """What is saved beside the base's."""
        return {}

    def split_state(self, state_dict: dict[str, Any]) -> tuple[dict[str, Any], Callable[[], None]]:
        """What is the base's, and a function that takes over what `own_state()` gave, once that is loaded."""
        return state_dict, lambda: None


def _with(optimizer: torch.optim.Optimizer, hook: StepHook, _base: Any, args: Any, kwargs: Any) -> Any:
    return hook(optimizer, args, kwargs)


def require_base(base: torch.optim.Optimizer) -> None:
    """Raises ValueError for a base that does not step along .grad alone, down the loss, with a learning rate."""
    name = type(base).__name__
    own = isinstance(base, torch.optim.Optimizer) and hasattr(base, "param_groups")
    require(own, f"the base must be a torch.optim.Optimizer with parameter groups, got {name}")
    asks = signature(base.step).parameters
    closure = asks.get("closure")
    require(
        (closure is None or closure.default is not Parameter.empty) and "hessian" not in asks,
        f"the base must step along .grad alone, got {name}, which asks a closure for the loss at other weights, or for "
        "second derivatives; use SGD, AdamW or another one that steps without a closure",
    )
    require(
        not hasattr(base, "first_step"),
        f"the base must step along .grad alone, got {name}, which makes two passes itself; give the base of that one",
    )
    require(
        all("lr" in group for group in base.param_groups),
        f"the base must have an lr in each parameter group, got {name} without; use one with a learning rate",
    )
    require_descent([*base.param_groups, vars(base)])


def require_descent(groups: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError for groups whose step is not one down the loss, or that autograd is to follow, or a GPU's."""
    asked = [name for name in ("maximize", "differentiable") if any(group.get(name) for group in groups)]
    require(
        not asked,
        f"the base must go down the loss of which e goes up, in place, got {', '.join(asked)}=True; "
        "leave it out, and minimise the negative of what is to be maximised",
    )
    for group in groups:
        devices = {p.device.type for p in parameters_in(group.get("params", ()))} if group.get("capturable") else set()
        require(
            not devices & {"cpu", "mps"},
            f"capturable=True needs parameters on a GPU, got {', '.join(sorted(devices))}; leave it out there",
        )


def parameters_in(given: Any) -> list[torch.Tensor]:
    """Of a group's "params": one or several, by name or not."""
    each = [given] if isinstance(given, torch.Tensor) else list(given)
    return [p[1] if isinstance(p, tuple) else p for p in each]


def require_no_sync(model: torch.nn.Module) -> None:
    """Raises ValueError for a model whose passes cannot be those of each rank."""
    joined = isinstance(model, DistributedDataParallel)
    require(joined, f"per_rank needs a DistributedDataParallel as model, got {type(model).__name__}")
    require(not getattr(model, "static_graph", False), "per_rank needs static_graph=False, which has no_sync()")
