"""A small network, whole or sharded over processes, its data, and vectors put together again."""

import torch
from cases import seeded
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from landscape.interop import distributed_checkpoint

__all__ = ["data", "network", "seeded", "sharded", "whole"]


def network(kind):
    """FSDP2 shares three rows and five out unevenly, tensor parallel layers only what is even."""
    torch.manual_seed(0)
    first, width = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Tanh()), 5 if kind == "fsdp" else 4
    model = nn.Sequential(first, nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 3)).double()
    model[3].weight.data.mul_(2)
    return model


def data():
    source = torch.Generator().manual_seed(1)
    sizes = [6, 3, 5]
    return [(torch.randn(n, 4, generator=source).double(), torch.randint(3, (n,), generator=source)) for n in sizes]


def sharded(kind, mesh, ignored=()):
    """`ignored`: names of parameters that FSDP2 leaves whole on all processes."""
    model = network(kind)
    if kind == "fsdp":
        left = {"ignored_params": {model.get_parameter(name) for name in ignored}} if ignored else {}
        fully_shard(model[0], mesh=mesh, **left)
        return fully_shard(model, mesh=mesh, **left)
    return parallelize_module(model, mesh, {"1": ColwiseParallel(), "3": RowwiseParallel()})


def whole(problem, vectors):
    """Columns (own, k) as (P, k) in the order of one process, on all."""
    if problem.shards is None:
        return vectors
    parts = distributed_checkpoint.parameters_of(problem, vectors).values()
    full = [getattr(part, "full_tensor", lambda part=part: part)() for part in parts]
    return torch.cat([part.reshape(-1, vectors.shape[1]) for part in full])


def message_of(call, *others):
    """What it says where it raises a ValueError, a RuntimeError or one of the others; else nothing."""
    try:
        call()
    except (ValueError, RuntimeError, *others) as error:
        return str(error)
    return ""
