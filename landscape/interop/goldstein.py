"""Slices and directions in the HDF5 files of tomgoldstein/loss-landscape, read and written.

A surface file holds xcoordinates (nx,), for a plane ycoordinates (ny,), and for each split SPLIT_loss and SPLIT_acc,
the latter in percent; -1 stands for a point that was not computed. Their walk numbers the points row by row, y outside
and x inside, but makes the arrays (nx, ny): the numbers of a non-square grid lie in the order of (ny, nx) under the
other shape. So arrays are read by their order alone, and written as (ny, nx), which their contour plots need.
A direction file holds groups xdirection and ydirection with one array per parameter: 0, 1, 2, ...
Source: Li et al. 2018, arXiv:1712.09913, and the files of its code.
"""

from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.checks import require, vector_like
from landscape.problem import Problem
from landscape.storage.atomic import replacing
from landscape.storage.results import Slice1D, Slice2D
from landscape.vectors import Vector, flatten

ABSENT = -1.0
MOST_COMPRESSED = 1032  # bytes that deflate makes of one, at most: what claims more is not read
DIRECTIONS = ("xdirection", "ydirection")


def write_surface(result: Slice1D | Slice2D, path: str | Path, *, direction_file: str = "") -> Path:
    """Write a slice for their plotting scripts.

    Args:
        result: of `slice_1d` or `slice_2d`; splits "train" and "test" are the ones their scripts know.
        path: the file, by custom ending in .h5.
        direction_file: what to name as the file of the directions, such as one of `write_directions`.
    Returns:
        The path.
    Raises:
        ImportError: without h5py.
    """
    content = {"dir_file": direction_file, "xcoordinates": result.x.numpy()}
    if isinstance(result, Slice2D):
        content["ycoordinates"] = result.y.numpy()
    content |= {f"{split}_loss": loss.numpy() for split, loss in result.loss.items()}
    content |= {f"{split}_acc": 100 * accuracy.numpy() for split, accuracy in result.accuracy.items()}
    return _written(Path(path), content)


def read_surface(path: str | Path) -> Slice1D | Slice2D:
    """A slice from one of their files.

    Returns:
        Slice1D, or Slice2D where the file has ycoordinates; points that were not computed are NaN, as are the norms and
        the cosine of the directions, which such a file does not tell. Accuracy is NaN where the file has none.
    Raises:
        ValueError: if the file is unreadable, has no loss, or an array has not as many numbers as the grid has points.
        ImportError: without h5py.
    """
    arrays = _read(Path(path))
    splits = [name.removesuffix("_loss") for name in arrays if name.endswith("_loss")]
    require(
        "xcoordinates" in arrays and len(splits) > 0,
        f"{path} must hold xcoordinates and a loss such as train_loss, got {', '.join(arrays) or 'nothing'}",
    )
    axes = [_tensor(arrays[key]) for key in ("xcoordinates", "ycoordinates") if key in arrays]
    shape = tuple(len(axis) for axis in axes[::-1])
    loss, accuracy = {}, {}
    for split in splits:
        found = _shaped(path, f"{split}_loss", arrays[f"{split}_loss"], shape)
        percent = arrays.get(f"{split}_acc", np.full(shape, np.nan))
        percent = _shaped(path, f"{split}_acc", percent, shape)
        absent = (found == ABSENT) & ((percent == ABSENT) | percent.isnan())
        loss[split] = found.where(~absent, torch.nan)
        accuracy[split] = (percent / 100).where(~absent, torch.nan)
    if len(axes) == 1:
        return Slice1D(axes[0], loss, accuracy)
    unknown = torch.full((2,), torch.nan, dtype=torch.float64, device="cpu")
    return Slice2D(axes[0], axes[1], loss, accuracy, unknown, unknown[0])


def write_directions(problem: Problem, directions: Sequence[Tensor], path: str | Path) -> Path:
    """Write one or two directions (P,) as lists of arrays in the parameters' shapes.

    Raises:
        ValueError: if there are none or more than two, or one does not fit the problem.
        ImportError: without h5py.
    """
    require(1 <= len(directions) <= 2, f"directions must be one or two, got {len(directions)}")
    content: dict[str, Any] = {}
    for name, direction in zip(DIRECTIONS, directions, strict=False):
        vector_like(name, direction, problem.require_whole("a file of directions").vector())
        pieces = problem.layout.unflatten(direction.cpu())
        content |= {f"{name}/{index}": piece.numpy() for index, piece in enumerate(pieces)}
    return _written(Path(path), content)


def read_directions(problem: Problem, path: str | Path) -> tuple[Vector, ...]:
    """The one or two directions of a file, (P,) each.

    Raises:
        ValueError: if the file is unreadable, has no directions, or their shapes are not those of the problem's
            parameters: directions of "states" (with BatchNorm's statistics) or of another choice of parameters.
        ImportError: without h5py.
    """
    arrays = _read(Path(path))
    own, found = problem.require_whole("a file of directions").vector(), []
    for name in DIRECTIONS:
        keys = takewhile(arrays.__contains__, (f"{name}/{index}" for index in count()))
        pieces = [_tensor(arrays[key]) for key in keys]
        if pieces:
            shapes, expected = [tuple(p.shape) for p in pieces], [tuple(shape) for shape in problem.layout.shapes]
            require(shapes == expected, f"{path}: {name} must have the parameters' shapes {expected}, got {shapes}")
            found.append(flatten(pieces).to(own))
    require(len(found) > 0, f"{path} must hold xdirection/0, xdirection/1, ..., got {', '.join(arrays) or 'nothing'}")
    return tuple(found)


def _shaped(path: str | Path, name: str, array: Any, shape: tuple[int, ...]) -> Tensor:
    size = int(np.prod(shape))
    require(array.size == size, f"{path}: {name} must have {size} numbers for the grid {shape}, got {array.size}")
    return _tensor(array).reshape(shape)


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("this format needs h5py; pip install 'landscape-toolkit[hdf5]'") from error
    return h5py


def _written(path: Path, content: Mapping[str, Any]) -> Path:
    h5py = _h5py()
    with replacing(path) as partial, h5py.File(partial, "w") as file:
        for name, value in content.items():
            file[name] = value
    return path


def _read(path: Path) -> dict[str, Any]:
    """All arrays of the file by their full names."""
    h5py = _h5py()
    arrays: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            claimed = f"{path}: {name} claims {item.nbytes} bytes, more than the file can hold"
            require(item.nbytes <= MOST_COMPRESSED * path.stat().st_size, claimed)
            arrays[name] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except OSError as error:
        raise ValueError(f"{path} must be a readable HDF5 file: {error}") from error
    return arrays
