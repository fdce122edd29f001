"""A network whose parameters are dealt out to processes: FSDP2 (`fully_shard`) or DTensor parameters.

A vector (P,) lives as this process's own entries, those of its local tensors in the order of the parameters. What
lies on several processes (a replicated parameter, or one that is no DTensor) belongs to the first of them, so that each
entry counts once, and is sent to the others when weights are put in place.

Gradients come by `backward()`: FSDP2 averages them over the processes when it reduces and scatters, tensor parallel
layers give each process its own part of the same ones. With u_r units on process r both are (1/n) Σ_r u_r g_r where the
loss is weighted by u_r, so that processes may hold their own shares of the data, or all the same.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from landscape.checks import require
from landscape.problem.data_reader import Item
from landscape.problem.module_attributes import ModuleAttributes
from landscape.problem.placement import Placement, coarsest, modules_of
from landscape.problem.traits import BatchError, Traits
from landscape.processes import ProcessGroup, added
from landscape.processes.space import DealtOut, drawn
from landscape.side_effects import buffer_state
from landscape.vectors import Layout, flatten, is_sharded, placed_as, sharded_as

AS_IT_IS = "a sharded model is evaluated as it is, got batch_norm='recompute' or dtype=; leave them out"
NO_GRAPH = (
    "a sharded model is differentiated by backward() alone, as loss, gradient and hessian by differences do; "
    "ask for one of them, or gather the model on one process"
)


def reshard(model: nn.Module) -> None:
    """Let FSDP2 forget the whole weights that a forward pass has left."""
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())
    for module in model.modules():
        if isinstance(module, kind):
            module.reshard()


def shards_of(model: nn.Module, names: Sequence[str]) -> "Shards | None":
    """How the parameters of these names are dealt out; None where all lie here.

    Raises:
        ValueError: if they are by FSDP1, or over several groups, as where tensor parallel layers lie within FSDP2.
    """
    wrapped = any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())
    require(not wrapped, "FSDP must be torch.distributed.fsdp.fully_shard (FSDP2), got FullyShardedDataParallel")
    named = dict(model.named_parameters())
    meshes = {p.device_mesh for p in named.values() if is_sharded(p)}
    if not meshes:
        return None
    largest = max(meshes, key=lambda mesh: mesh.size())
    everyone = largest.size() == distributed.get_world_size()
    require(
        everyone or largest.ndim == 1,
        f"the mesh of sharded parameters must have one axis or hold all {distributed.get_world_size()} processes, got "
        f"{tuple(largest.shape)}",
    )
    smaller = [tuple(mesh.shape) for mesh in meshes if mesh.size() < largest.size()]
    require(
        not smaller,
        f"all sharded parameters must lie on {largest.size()} processes, got some on a mesh of {smaller[:1]}, of which "
        "the others have copies; parallelise every layer, or use FSDP2 alone",
    )
    group = distributed.group.WORLD if everyone else largest.get_group()
    return Shards([named[name] for name in names], group)


class Shards(DealtOut):
    """Where the entries of each parameter lie."""

    def __init__(self, parameters: Sequence[Tensor], group: ProcessGroup) -> None:
        self.parameters, self.group = list(parameters), group
        # the coarsest on the way from w to the loss, and that weights are used in, once there was a gradient
        self.precisions: tuple[torch.dtype, torch.dtype] | None = None
        self.units = 0.0  # of all processes' present batches
        self.mine = [_is_owner(p, group) for p in parameters]
        local = [local_part(p) for p in parameters]
        shapes = [part.shape if mine else (0, *part.shape[1:]) for part, mine in zip(local, self.mine, strict=True)]
        self.shapes = [torch.Size(shape) for shape in shapes]
        super().__init__(sum(shape.numel() for shape in self.shapes), group, local[0].device)

    def layout(self, layout: Layout) -> Layout:
        """Where each parameter's own entries lie in the own part of a vector."""
        return Layout(layout.names, tuple(self.shapes), layout.is_weight, layout.is_norm)

    def own_of(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """The own entries of tensors that are dealt out like the parameters, flat."""
        parts = [local_part(tensor).reshape(-1) for tensor in tensors]
        return [part if mine else part[:0] for part, mine in zip(parts, self.mine, strict=True)]

    def write(self, pieces: Iterable[Tensor]) -> None:
        """Put own entries into the parameters; those of replicated ones are sent to who has them too."""
        with torch.no_grad():
            for p, piece, mine in zip(self.parameters, pieces, self.mine, strict=True):
                part = local_part(p)
                if mine:
                    part.copy_(piece.view(part.shape))
                _send(p, part, self.group)

    def placed(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Own entries in the parameters' shapes, with further axes behind, as tensors that are sharded as these are."""
        found = []
        for p, piece, mine in zip(self.parameters, pieces, self.mine, strict=True):
            more = piece.shape[max(p.ndim, 1) if not mine else p.ndim :]
            part = piece.contiguous() if mine else piece.new_zeros(*local_part(p).shape, *more)
            _send(p, part, self.group)
            found.append(sharded_as(part, p, more))
        return found

    @property
    def rows_are_whole(self) -> bool:
        """Whether no row of a matrix is cut, as by `fully_shard`."""
        return all(not hasattr(placement, "dim") or placement.dim == 0 for p in self.parameters for placement in _on(p))

    def normal(self, count: int, source: torch.Generator) -> Tensor:
        sizes = [p.numel() for p in self.parameters]
        pieces = drawn(sizes * count, source)
        rows = [self.own_of(placed_as(next(pieces), p) for p in self.parameters) for _ in range(count)]
        return torch.stack([torch.cat(row) for row in rows])


class ShardedPlacement(Placement):
    """The model with other entries in its own local tensors, put back to the bit in the end."""

    def __init__(self, model: nn.Module, shards: Shards, traits: Traits) -> None:
        self.model, self.shards, self.traits = model, shards, traits
        traits.known = traits.checked_graph = True  # nothing stands for the weights: they are moved themselves
        reshard(model)
        self._found = [(part, part.clone()) for part in map(local_part, shards.parameters)]
        self._buffers_as_found = buffer_state(model)
        self._attributes = ModuleAttributes(list(modules_of(model).values()), with_tensors=False)
        self.pieces: Sequence[Tensor] = ()
        self.vector, self.of_vector, self.differentiated, self.dtype = None, (), False, None
        self.leaves: Sequence[Tensor] = ()

    @property
    def size(self) -> int:
        return self.shards.size

    @property
    def precision(self) -> torch.dtype:
        return coarsest([p.dtype for p in self.shards.parameters])

    def start(self) -> None:
        """Buffers and attributes of modules as they were."""
        self._buffers_as_found()
        self._attributes.restore()

    def put(self, pieces: Sequence[Tensor], dtype: torch.dtype | None) -> None:  # noqa: ARG002  (its own, as checked)
        if any(piece.requires_grad for piece in pieces) and torch.is_grad_enabled():
            raise BatchError(NO_GRAPH)
        if pieces is not self.pieces:
            reshard(self.model)
            self.shards.write(pieces)
            self.pieces = pieces

    def restore(self) -> None:
        reshard(self.model)
        with torch.no_grad():
            for part, found in self._found:
                part.copy_(found)
        self.start()


@contextmanager
def sharded_in_place(model: nn.Module, shards: Shards, traits: Traits) -> Iterator[Placement]:
    """As `put_in_place`, for a sharded model."""
    placement = ShardedPlacement(model, shards, traits)
    try:
        yield placement
    finally:
        placement.restore()


@contextmanager
def gradients_apart(model: nn.Module) -> Iterator[None]:
    """Within the block no parameter has a gradient at first; afterwards each its own again."""
    found = [(p, p.grad) for p in model.parameters()]
    try:
        for p, _ in found:
            p.grad = None
        yield
    finally:
        reshard(model)
        for p, grad in found:
            p.grad = grad


def mean_gradients(shards: Shards) -> Tensor:
    """The own entries (own,) of what backward has left, averaged over the processes."""
    grads = []
    for p in shards.parameters:
        grad = torch.zeros_like(p) if p.grad is None else p.grad
        if not is_sharded(p):
            grad = added(grad, shards.group) / shards.count
        elif is_sharded(grad) and grad.placements != p.placements:
            grad = grad.redistribute(placements=p.placements)
        grads.append(grad)
    return flatten(shards.own_of(grads))


def in_step(items: Iterable[Item], shards: Shards) -> Iterator[Item]:
    """This process's batches, and while others have more its last one again, with 0 units: all must run alike.

    Raises:
        Exception: what reading raises here; ValueError where another process fails in it or has no batch at all.
    """
    iterator, last, begun = iter(items), None, False
    while True:
        item, failure = None, None
        try:
            item = next(iterator, None)
        except Exception as error:  # whatever it is, the others must hear of it
            failure = error
        told = [float(item is not None), float(failure is not None), item[3] if item else 0.0]
        numbers = added(torch.tensor(told, dtype=torch.float64, device=shards.device), shards.group)
        ready, failed, shards.units = numbers.tolist()
        if failure is not None:
            raise failure
        require(failed == 0, f"{int(failed)} other process(es) failed in reading the data; see their messages")
        if ready == 0:
            return
        require(
            begun or ready == shards.count,
            f"each of the {shards.count} processes of a sharded model must hold at least one batch, got none on "
            f"{shards.count - int(ready)}",
        )
        begun, last = True, item or last
        assert last is not None
        yield item or (*last[:3], 0.0)


def finite_loss(loss: Tensor) -> Tensor:
    """A mean over all processes' data. Raises ValueError, on all of them, if it is NaN or infinite."""
    require(bool(loss.isfinite()), f"the loss is {float(loss)}; check the weights, inputs and targets for NaN")
    return loss


def local_part(tensor: Tensor) -> Tensor:
    """What of a tensor lies here, in its own memory."""
    with torch.no_grad():
        local: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
        return local.detach()


def _is_owner(p: Tensor, group: ProcessGroup) -> bool:
    """Whether this process is the first of those that hold the same entries."""
    if not is_sharded(p):
        return distributed.get_rank(group) == 0
    mixed = [str(placement) for placement in _on(p) if placement.is_partial()]
    require(not mixed, f"parameters must be sharded or replicated, got one that is {mixed[:1]}")
    place: Any = p.device_mesh.get_coordinate()
    return not any(own and placement.is_replicate() for own, placement in zip(place, _on(p), strict=True))


def _send(p: Tensor, part: Tensor, group: ProcessGroup) -> None:
    """The first holder's entries to all who hold the same."""
    if not is_sharded(p):
        distributed.broadcast(part, group_src=0, group=group)
        return
    for axis, placement in enumerate(_on(p)):
        if placement.is_replicate():
            distributed.broadcast(part, group_src=0, group=p.device_mesh.get_group(axis))


def _on(p: Tensor) -> Sequence[Any]:
    """How a parameter lies along each axis of its mesh; nothing for one that is no DTensor."""
    return p.placements if is_sharded(p) else ()
