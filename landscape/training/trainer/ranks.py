"""The processes of a training that torchrun has started: each has its share of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed


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
