"""Weights and eigenvectors by torch.distributed.checkpoint, of which each process writes and reads its own part.

The files are read again by any number of processes, one included.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from landscape.checks import require
from landscape.problem import Problem
from landscape.storage.results import EigenPairs
from landscape.vectors import Block

NUMBERS = ("values", "residuals", "converged")


def load_weights(model: nn.Module, folder: str | Path, *, key: str = "model") -> None:
    """Weights of a run saved as checkpoint.save({key: model.state_dict()}, checkpoint_id=folder), into the model.

    Args:
        model: sharded or whole, as many processes as it has make this call.
        folder: of the checkpoint.
        key: under which the weights are; "" where they are all there is.
    Raises:
        torch.distributed.checkpoint.CheckpointException: if the folder lacks a parameter.
    """
    state = get_model_state_dict(model)
    load({key: state} if key else state, checkpoint_id=str(folder))
    set_model_state_dict(model, state)


def save_pairs(problem: Problem, pairs: EigenPairs, folder: str | Path) -> None:
    """Eigenpairs with their vectors in the shapes of the parameters, (*shape, k) under "vectors" and the name."""
    save(_content(problem, pairs), checkpoint_id=str(folder))


def load_pairs(problem: Problem, folder: str | Path) -> EigenPairs:
    """Eigenpairs that `save_pairs` has written; vectors (P, k), of a sharded model its own entries.

    Raises:
        torch.distributed.checkpoint.CheckpointException: if they are of other parameters.
        ValueError: if there are none.
    """
    stored = FileSystemReader(str(folder)).read_metadata().state_dict_metadata.get("values")
    require(isinstance(stored, TensorStorageMetadata), f"{folder} holds no eigenpairs; is it of save_pairs?")
    assert isinstance(stored, TensorStorageMetadata)
    k, like = stored.size[0], problem.vector()
    none = like.new_zeros(k)
    empty = EigenPairs(none, like.new_zeros(len(like), k), none.clone(), none.bool(), matvecs=0)
    content = _content(problem, empty)
    load(content, checkpoint_id=str(folder))
    values, residuals, converged = (content[name] for name in NUMBERS)
    vectors = vectors_of(problem, k, content["vectors"])
    return EigenPairs(values, vectors, residuals, converged, matvecs=int(content["matvecs"]))


def parameters_of(problem: Problem, vectors: Block) -> dict[str, Tensor]:
    """Columns (P, k) as one tensor a parameter, (*shape, k), sharded as it is: DTensors that torch and others take."""
    k, names = vectors.shape[1], problem.layout.names
    pieces = [
        part.view(*shape, k)
        for part, shape in zip(vectors.split(problem.layout.sizes), problem.layout.shapes, strict=True)
    ]
    return dict(zip(names, problem.placed(pieces), strict=True))


def vectors_of(problem: Problem, k: int, tensors: dict[str, Tensor]) -> Block:
    """The k columns (P, k) that `parameters_of` has made into tensors."""
    parts = [tensors[name] for name in problem.layout.names]
    flat = parts if problem.shards is None else problem.shards.own_of(parts)
    return torch.cat([part.reshape(-1, k) for part in flat])


def _content(problem: Problem, pairs: EigenPairs) -> dict[str, Any]:
    numbers = {name: getattr(pairs, name) for name in NUMBERS}
    return numbers | {"matvecs": torch.tensor(pairs.matvecs), "vectors": parameters_of(problem, pairs.vectors)}
