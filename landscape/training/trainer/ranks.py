"""The processes of a training that torchrun has started: each has its share of every batch."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from landscape.side_effects import random_state_kept, seed_of


@dataclass(frozen=True)
class Ranks:
    """This process among `size`. A training alone is the first of one."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch."""
        return batch.tensor_split(self.size)[self.rank]

    def tell(self, value: Any) -> Any:
        """The first process's value, on all."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    @contextmanager
    def own_random(self, *numbers: int) -> Iterator[None]:
        """Dropout that follows from the numbers and the rank; all go on with the same random numbers afterwards."""
        if self.size == 1:
            yield
            return
        with random_state_kept():
            torch.manual_seed(seed_of(*numbers, self.rank))
            yield

    def summed(self, values: Tensor) -> Tensor:
        """Sums over the processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values


@contextmanager
def launched(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started, joined for the block; one alone where it did not."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    own = not distributed.is_initialized()
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if own:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        if own:
            distributed.destroy_process_group()


def joined(network: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Gradients are summed over the processes at the last piece of a pass: not all need have as many pieces."""
    if last or not isinstance(network, DistributedDataParallel):
        return nullcontext()
    wait: AbstractContextManager[None] = network.no_sync()
    return wait
