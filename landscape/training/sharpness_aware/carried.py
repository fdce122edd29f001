"""A rule's state where parameters have come, gone or changed their order: carried over by their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.training.rules import State

Shapes = Mapping[str, tuple[int, ...]]  # of the parameters in (P,), in its order


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        state: the rule's.
        shapes: of the parameters that it belongs to.
        steps: made.
    """

    state: State = None
    shapes: Shapes = field(default_factory=dict)
    steps: int = 0

    def saved(self, name: str) -> dict[str, Any]:
        """As plain values and tensors, with the name of the rule."""
        shapes = {parameter: list(shape) for parameter, shape in self.shapes.items()}
        return {"name": name, "state": self.state, "parameters": shapes, "steps": self.steps}

    @classmethod
    def of(cls, saved: Mapping[str, Any], device: torch.device) -> "Progress":
        """What `saved` gave, with its tensors on the device."""
        shapes = {parameter: tuple(shape) for parameter, shape in saved["parameters"].items()}
        return cls(_on_device(saved["state"], device), shapes, saved["steps"])


def of_version_0_1(state_dict: Mapping[str, Any], now: Shapes) -> dict[str, Any]:
    """A state dict of that version as one of this."""
    own = {"name": state_dict["rule"], "state": state_dict["rule_state"], "parameters": dict(now), "steps": 0}
    return {**state_dict["base"], "rule": own}


def carried(state: State, before: Shapes, now: Shapes) -> State:
    """The state over other parameters: 0 at new entries. Where some have come or gone, "new" marks these in a dict.

    None, as at the first step, where no parameter has stayed.
    """
    if state is None or list(before.items()) == list(now.items()):
        return state
    change = _Change(_spans(before), _spans(now))
    if not change.kept:
        return None
    state = change.of(state)
    if isinstance(state, dict) and change.before.keys() != change.now.keys():
        return {**state, "new": change.new(state)}
    return state


@dataclass(frozen=True)
class _Change:
    before: Mapping[tuple[str, tuple[int, ...]], slice]
    now: Mapping[tuple[str, tuple[int, ...]], slice]

    @property
    def kept(self) -> list[tuple[slice, slice]]:
        return [(self.before[key], span) for key, span in self.now.items() if key in self.before]

    def of(self, state: State) -> State:
        if isinstance(state, dict):
            return {key: self.of(value) for key, value in state.items()}
        size = _end(self.before)
        if not isinstance(state, Tensor) or state.ndim == 0 or state.shape[-1] != size:
            return state
        moved = state.new_zeros(*state.shape[:-1], _end(self.now))
        for old, new in self.kept:
            moved[..., new] = state[..., old]
        return moved

    def new(self, state: State) -> Tensor:
        mask = torch.ones(_end(self.now), dtype=torch.bool, device=_device(state))
        for _, span in self.kept:
            mask[span] = False
        return mask


def _spans(shapes: Shapes) -> dict[tuple[str, tuple[int, ...]], slice]:
    found, start = {}, 0
    for name, shape in shapes.items():
        end = start + torch.Size(shape).numel()
        found[name, tuple(shape)] = slice(start, end)
        start = end
    return found


def _end(spans: Mapping[Any, slice]) -> int:
    return max((span.stop for span in spans.values()), default=0)


def _device(state: Any) -> torch.device:
    tensors = (value for value in state.values() if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _on_device(state: State, device: torch.device) -> State:
    """A rule's state with its tensors there."""
    if isinstance(state, dict):
        return {key: _on_device(value, device) for key, value in state.items()}
    return state.to(device) if isinstance(state, Tensor) else state
