"""A model with other tensors in the place of its own weights and buffers, for the length of a pass over the data.

The tensors stay in place through forward, backward and every product from kept graphs, so that what is computed once
more in a backward pass (activation checkpointing) sees the weights that it was computed with. In the end the model is
as it was, bit for bit: parameters, buffers, flags, and attributes that a forward pass computes (the older weight_norm
and spectral_norm, pruning, the flat weights of recurrent layers). One lock makes other threads wait, whatever their
model: a pass also sets random states and switches of torch that all threads of a process share.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape.checks import require
from landscape.problem.module_attributes import ModuleAttributes
from landscape.problem.traits import OwnWeightsWatched, Traits, writes
from landscape.vectors import Layout

ONE_AT_A_TIME = RLock()  # a pass

Slot = tuple[MutableMapping[str, Any], str]  # a module's own parameters or buffers, and the name there


@contextmanager
def put_in_place(
    model: nn.Module, layout: Layout, others: Mapping[str, Tensor], dtype: torch.dtype | None, traits: Traits
) -> Iterator["Placement"]:
    """The model for one pass: see `Placement`. Everything is put back in the end, also after an error."""
    placement = Placement(model, layout, others, dtype, traits)
    try:
        yield placement
    finally:
        placement.restore()


class Placement:
    """Puts weights in place of the model's own.

    Args:
        model: any module, with the flags that it is to have.
        layout: the parameters that the weights belong to.
        others: what stands for the model's other parameters and its buffers, by name; default their own values.
        dtype: of all floating tensors; None for each parameter's own.
        traits: of the model, learned on the way.
    """

    def __init__(
        self, model: nn.Module, layout: Layout, others: Mapping[str, Tensor], dtype: torch.dtype | None, traits: Traits
    ) -> None:
        self.traits, self.given = traits, dtype
        modules = modules_of(model)
        with_tensors = traits.writes_tensors or not traits.known
        self._attributes = ModuleAttributes(list(modules.values()), with_tensors=with_tensors)
        self._own: list[tuple[MutableMapping[str, Any], dict[str, Any]]] = []
        slots: dict[int, tuple[str, Tensor, list[Slot]]] = {}
        self._buffers: list[_Buffer] = []
        for prefix, module in modules.items():
            self._own += [(kept, dict(kept.items())) for kept in (module._parameters, module._buffers)]
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    _, _, places = slots.setdefault(id(parameter), (prefix + name, parameter, []))
                    places.append((module._parameters, name))
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    source = others.get(prefix + name, buffer)
                    self._buffers.append(_Buffer(module._buffers, name, source.detach()))
        self._names = {key: name for key, (name, _, _) in slots.items()}  # of the model's own
        by_name = {name: (parameter, places) for name, parameter, places in slots.values()}
        missing = [name for name in layout.names if name not in by_name]
        require(
            not missing,
            f"parameters must have the names that their modules give them, got {missing[:3]}; "
            "does the model override named_parameters()?",
        )
        self._weights = [by_name.pop(name) for name in layout.names]
        self._others = [(others.get(name, own).detach(), places) for name, (own, places) in by_name.items()]
        self._written: list[tuple[Tensor, Tensor]] = []  # of the model's own others, with a copy
        self.dtype: torch.dtype | None = None  # of the tensors in place, if not their own
        self.pieces: Sequence[Tensor] = ()
        self.vector: Tensor | None = None  # the last one that was put in place as a whole, and its pieces
        self.of_vector: Sequence[Tensor] = ()
        self.differentiated = False
        self.leaves: Sequence[Tensor] = ()  # w as leaves, for products from kept graphs
        self._in_place: list[Tensor] = []

    @property
    def size(self) -> int:
        """Entries of all chosen parameters."""
        return sum(own.numel() for own, _ in self._weights)

    @property
    def precision(self) -> torch.dtype:
        """The coarsest one among the chosen parameters."""
        return coarsest([own.dtype for own, _ in self._weights])

    def put(self, pieces: Sequence[Tensor], dtype: torch.dtype | None) -> None:
        """Put each chosen parameter's tensor in place, and the others in the precision asked for."""
        anew = self.traits.writes_others or not self.pieces or dtype != self.dtype
        if pieces is self.pieces and not anew and not self.traits.writes_weights:
            return
        if anew:
            self._put_others(dtype)
        self.pieces, self.dtype = pieces, dtype
        self._in_place = []
        for (own, places), piece in zip(self._weights, pieces, strict=True):
            tensor = piece.to(dtype or own.dtype)
            self._in_place.append(tensor)
            for kept, name in places:
                kept[name] = tensor

    def start(self) -> None:
        """Before each evaluation: modules as they were, buffers that were written into anew."""
        for buffer in self._buffers:
            buffer.renew()
        if self.traits.changes_attributes:
            self._attributes.renew(copies=self.traits.writes_tensors)

    def note_attributes(self) -> None:
        """Learn whether the last evaluation has left something else in the attributes of a module."""
        self.traits.writes_tensors = self._attributes.written()
        self.traits.changes_attributes = self.traits.writes_tensors or self._attributes.changed()

    def watched(self) -> OwnWeightsWatched:
        """A mode in which the model's own weights may not be used: they are held elsewhere, in a list or a closure.

        Of a parameter that is not chosen, and in place as it is, a copy is kept before it is written into.
        """
        others = {_address(own): own for own, _ in self._others}
        others.pop(0, None)

        def before_write(tensor: Any) -> None:
            own = others.pop(_address(tensor), None)
            if own is not None:
                self._written.append((own, own.clone()))
                self.traits.writes_others = True

        return OwnWeightsWatched(self._names, before_write)

    def following(self) -> "FollowedWrites":
        """A mode in which what the forward pass writes into weights becomes part of the function."""
        return FollowedWrites(dict(zip(map(id, self._in_place), self._weights, strict=True)), self._in_place)

    def put_others_back(self) -> None:
        """What the first evaluation has written into parameters that are not chosen; later ones write into copies."""
        with torch.no_grad():
            for own, copy in self._written:
                own.copy_(copy)
        self._written.clear()

    def restore(self) -> None:
        """The model's own again."""
        self.put_others_back()
        for kept, own in self._own:
            if len(kept) != len(own):
                for name in set(kept) - set(own):
                    del kept[name]
            if isinstance(kept, dict):
                kept.update(own)
            else:  # of a scripted module
                for name, tensor in own.items():
                    kept[name] = tensor
        self._attributes.restore()

    def _put_others(self, dtype: torch.dtype | None) -> None:
        for tensor, places in self._others:
            placed = _in_precision(tensor, dtype)
            for kept, name in places:
                kept[name] = placed.clone() if placed.is_inference() or self.traits.writes_others else placed
        for buffer in self._buffers:
            buffer.place(dtype)


@dataclass(eq=False)
class _Buffer:
    """One buffer: a copy of it is in place, and a new copy where a forward pass has written into that one."""

    kept: MutableMapping[str, Any]
    name: str
    source: Tensor
    dtype: torch.dtype | None = None
    placed: Tensor | None = None
    version: int = 0

    def place(self, dtype: torch.dtype | None) -> None:
        self.dtype = dtype
        self.placed = _in_precision(self.source, dtype).clone()
        self.version = self.placed._version
        self.kept[self.name] = self.placed

    def renew(self) -> None:
        if self.kept[self.name] is not self.placed or self.placed is None or self.placed._version != self.version:
            self.place(self.dtype)


class FollowedWrites(TorchFunctionMode):
    """Writes into weights, which models make under no_grad or through .data, made on copies that depend on them."""

    def __init__(self, slots: dict[int, tuple[Tensor, list[Slot]]], weights: Sequence[Tensor]) -> None:
        super().__init__()
        self._slots = {key: places for key, (_, places) in slots.items()}
        self._now = {id(weight): weight for weight in weights}  # the tensor that stands for a weight at present
        self._aliases: dict[int, tuple[int, Tensor]] = {}  # of detached ones; kept alive, so that an id stays its own

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        key = id(args[0]) if args else 0
        key = self._aliases[key][0] if key in self._aliases else key
        if key not in self._slots:
            return func(*args, **(kwargs or {}))
        if func in (Tensor.detach, Tensor.data.__get__):  # type: ignore[attr-defined]
            alias = func(*args, **(kwargs or {}))
            self._aliases[id(alias)] = (key, alias)
            return alias
        if not writes(func):
            return func(*args, **(kwargs or {}))
        with torch.enable_grad():
            moved = self._now[key].clone()
            func(moved, *args[1:], **(kwargs or {}))
        for kept, name in self._slots[key]:
            kept[name] = moved
        self._slots[id(moved)], self._now[id(moved)] = self._slots[key], moved
        return moved


def _address(tensor: Any) -> int:
    """Of what a tensor's views and aliases share; 0 where there is no such thing."""
    with suppress(RuntimeError):
        return tensor.untyped_storage().data_ptr() if isinstance(tensor, Tensor) else 0
    return 0


def _in_precision(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def coarsest(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The floating type of the fewest digits."""
    return max((dtype for dtype in dtypes if dtype.is_floating_point), key=lambda dtype: torch.finfo(dtype).eps)


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Prefix of its parameters' names to module, each once under its first name, in the order of `named_modules()`."""
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    waiting = [("", model)]
    while waiting:
        prefix, module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            found[prefix] = module
            children = module._modules.items()
            waiting += [(f"{prefix}{name}.", child) for name, child in reversed(children) if child is not None]
    return found


def graph_nodes(*roots: Any, without: Iterable[Any] = ()) -> Iterator[Any]:
    """Every node of an autograd graph, once; none of `without`, nor what only they lead to."""
    waiting: list[Any] = list(roots)
    seen: set[Any] = set(without)
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting.extend(following for following, _ in node.next_functions)


def missing_derivatives(*ends: Any, without: Iterable[Any] = ()) -> list[str]:
    """Names of the nodes of a graph that stand for a derivative that does not exist.

    torch complains only when it runs that node, and as nothing leads from it to w it never does: what is computed from
    the graph would lack a part without a word.
    """
    names = (node.name() for node in graph_nodes(*ends, without=without))
    return [name for name in names if name.rpartition("::")[2] in ("Error", "DelayedError", "NotImplemented")]
