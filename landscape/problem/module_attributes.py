"""The plain attributes of a model's modules, put back after a forward pass has written them.

A forward pass may keep what it has computed: in an attribute assigned anew, in a dict, list or set, also inside
another one, or in a tensor that is no buffer. Left there, it would belong to other weights than the next pass has. A
container of a class of one's own is left alone: it may be a record of what was seen.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

CONTAINERS = frozenset((dict, list, set, deque, defaultdict, OrderedDict))
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))  # attributes that hold parameters, hooks and the like


class ModuleAttributes:
    """The attributes of these modules as they are now.

    Args:
        modules: each once.
        with_tensors: tensors are looked after too, in case that one is written in place.
    """

    def __init__(self, modules: Sequence[nn.Module], *, with_tensors: bool) -> None:
        self._attributes = [(module.__dict__, dict(module.__dict__)) for module in modules]
        own = [{k: v for k, v in now.items() if k not in _OF_EVERY_MODULE} for now, _ in self._attributes]
        self._containers = [(value, value.copy()) for value in _containers(own)]
        self._tensors: dict[int, tuple[Tensor, int, Tensor]] = {}  # by id, with version and a copy
        self._slots: list[tuple[Any, Any, int]] = []  # where they are
        if with_tensors:
            for now, named in zip(self._attributes, own, strict=True):
                self._look_after(now[0], named.items())
            for value, _ in self._containers:
                self._look_after(value, value.items() if isinstance(value, dict) else enumerate(value))

    def changed(self) -> bool:
        """Whether one has been assigned, filled or emptied since."""
        return any(not _same(*pair) for pair in (*self._attributes, *self._containers))

    def written(self) -> bool:
        """Whether a tensor among them has been written in place since."""
        return any(tensor._version != version for tensor, version, _ in self._tensors.values())

    def restore(self) -> None:
        """All as they were."""
        for now, before in self._attributes:
            if len(now) != len(before):
                for name in [name for name in now if name not in before]:
                    del now[name]
            now.update(before)
        for value, content in self._containers:
            if not _same(value, content):
                value.clear()
                (value.extend if isinstance(value, list | deque) else value.update)(content)
        for key, (tensor, version, copy) in self._tensors.items():
            if tensor._version != version:
                with torch.no_grad():
                    tensor.detach_().copy_(copy)
                self._tensors[key] = tensor, tensor._version, copy

    def renew(self, *, copies: bool) -> None:
        """As they were, or with `copies` of the tensors: what an earlier graph has kept of them stays as it is."""
        self.restore()
        if copies:
            fresh = {key: copy.clone() for key, (_, _, copy) in self._tensors.items()}
            for holder, place, key in self._slots:
                holder[place] = fresh[key]

    def _look_after(self, holder: Any, items: Iterable[tuple[Any, Any]]) -> None:
        """The tensors in a dict or list that a forward pass may write into: no parameters, no part of a graph."""
        for place, value in items:
            if type(value) is Tensor and not (value.requires_grad or value.is_inference() or isinstance(holder, set)):
                if id(value) not in self._tensors:
                    self._tensors[id(value)] = value, value._version, value.clone()
                self._slots.append((holder, place, id(value)))


def _containers(holders: Iterable[Any]) -> list[Any]:
    """Those inside the holders, and inside one another, each once."""
    found: dict[int, Any] = {}
    waiting = [*holders]
    while waiting:
        last = waiting.pop()
        inside = last.values() if isinstance(last, dict) else last
        if not CONTAINERS.isdisjoint(map(type, inside)):  # thousands of numbers or tensors cost next to nothing
            new = {id(value): value for value in inside if type(value) in CONTAINERS and id(value) not in found}
            found |= new
            waiting += new.values()
    return list(found.values())


def _same(one: Any, two: Any) -> bool:
    """Whether two containers hold the same objects: a tensor cannot be compared with another one."""
    if isinstance(one, set):
        return one == two
    if len(one) != len(two) or not all(map(is_, one, two)):
        return False
    return not isinstance(one, dict) or all(map(is_, one.values(), two.values()))
