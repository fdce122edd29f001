"""How many bytes of tensors a computation holds at most, found without making it: it runs on tensors without numbers.

Fake tensors have shapes, types and devices, and no memory; every question about a value is answered by 1 or True, so
that what is finite or equal seems so, and masks choose everything. Tensors that were there before, such as the
network's weights, are not counted, nor is what a kernel uses inside or the allocator keeps in reserve.
Backward without create_graph adds the gradients of several uses of a tensor in place, into the first one if nobody else
holds it; while tensors are watched it never does (`can_accumulate_inplace` in torch's input_buffer.cpp). So such a sum
is taken to be in place here: that of an embedding which is the head as well, for one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ALONE = 2  # owners of a storage that one tensor and the question hold
ANSWERS = {"_local_scalar_dense": 1, "equal": True, "is_nonzero": True}


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of storages that are made while it is on: `now`, and `peak`, the most at a time.

    For tensors without values alone: what asks for some gets an answer all the same.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: dict[int, int] = {}  # storages to the steps of a backward pass that made them

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func._opname in ANSWERS:
            return ANSWERS[func._opname]
        if func._opname.startswith("index"):
            args = (args[0], _all_chosen(args[1]), *args[2:]) if isinstance(args[1], Sequence) else args
        if func is torch.ops.aten.add.Tensor and not kwargs and self._in_place(*args):
            return args[0]
        given = {_key(part) for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)}
        found = func(*args, **(kwargs or {}))
        for part in tree_leaves(found):
            if isinstance(part, Tensor) and part.layout == torch.strided and _key(part) not in given:
                self._note(part)
        return found

    def _in_place(self, first: Any, second: Any) -> bool:
        """Whether a backward pass adds one gradient to that of an earlier step which nobody else holds."""
        if torch.is_grad_enabled() or not isinstance(first, Tensor) or not isinstance(second, Tensor):
            return False
        if first.layout != torch.strided or (first.shape, first.dtype) != (second.shape, second.dtype):
            return False
        storage, here = first.untyped_storage(), _node()
        whole = first.numel() * first.element_size() == storage.nbytes()
        earlier = here >= 0 and self._seen.get(storage._cdata, here) != here
        return earlier and whole and torch._C._storage_Use_Count(storage._cdata) <= ALONE

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen[key] = _node()
        self.now += size
        self.peak = max(self.peak, self.now)
        finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        del self._seen[key]
        self.now -= size


def _node() -> int:
    """Which step of a backward pass runs, -1 for none."""
    node = torch._C._current_autograd_node()
    return -1 if node is None else node._sequence_nr()


def _all_chosen(indices: Sequence[Any]) -> list[Any]:
    """Masks as the places that they hold at most."""
    found: list[Any] = []
    for index in indices:
        mask = isinstance(index, Tensor) and index.dtype == torch.bool
        found += [torch.empty(index.numel(), dtype=torch.long, device=index.device)] * index.ndim if mask else [index]
    return found


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else id(tensor)


@contextmanager
def without_numbers() -> Iterator[PeakMemory]:
    """Tensors made inside have no memory; of real ones that are used the shapes alone count. May be nested, so that a
    network made inside, of any size, can be asked about."""
    around = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    with nullcontext(around) if around else FakeTensorMode(allow_non_fake_inputs=True), PeakMemory() as peak:
        yield peak


def shape_alone(tensor: Tensor) -> Tensor:
    """A real tensor as it is inside `without_numbers`: used there so, it does not count as made there."""
    mode = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    return tensor if isinstance(tensor, FakeTensor) else mode.from_tensor(tensor)
