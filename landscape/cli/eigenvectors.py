"""Eigenvectors that `landscape spectrum` leaves beside its results, and `landscape slice --directions` goes along."""

from pathlib import Path
from typing import Any

from landscape.checks import require
from landscape.problem import Problem
from landscape.slices import Directions, hessian_directions
from landscape.storage.array_checkpoint import fingerprint
from landscape.storage.manifest import read_manifest
from landscape.storage.results import EigenPairs

SPECTRUM, PREFIX = "spectrum-", "eigenvectors-"  # names of files begin so, and end alike


def vectors_beside(stem: Path) -> Path:
    """The file of the eigenvectors that belong to the results of that name."""
    return stem.with_name(f"{PREFIX}{stem.name.removeprefix(SPECTRUM)}.npz")


def keep_vectors(pairs: EigenPairs, file: Path, problem: Problem, **manifest: Any) -> None:
    """Write eigenpairs, with what tells later whether a network is the one that they are of."""
    pairs.save(file, parameters=problem.size, weights=fingerprint(problem.vector()), **manifest)


def holds(file: Path, values: list[float]) -> bool:
    """Whether the file is whole and its eigenvalues are these."""
    try:
        return bool(EigenPairs.load(file).values.tolist() == values)
    except ValueError:
        return False


def vectors_in(path: Path) -> Path:
    """The file, or the only one of its kind in a folder. Raises ValueError if there is none, or several."""
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"{PREFIX}*.npz"))
    require(len(found) > 0, f"{path} holds no eigenvectors; landscape spectrum with --out {path} leaves them there")
    names = ", ".join(file.name for file in found)
    require(len(found) == 1, f"{path} holds several files of eigenvectors, {names}; name one in place of the folder")
    return found[0]


def directions_of(file: Path, problem: Problem) -> Directions:
    """The first two eigenvectors of a file, each of length √(2/|λ|), as `hessian_directions` has it.

    Raises:
        ValueError: if the file is none of `landscape spectrum`, is of another network, or holds a single vector.
    """
    require(
        file.exists(), f"--directions must be what landscape spectrum has left, its folder or file, found no {file}"
    )
    pairs, manifest = EigenPairs.load(file), read_manifest(file)
    size, again = len(pairs.vectors), "take the file of landscape spectrum on this network"
    require(size == problem.size, f"{file} is of a network of {size:,} parameters, got {problem.size:,}; {again}")
    require(manifest.get("weights") == fingerprint(problem.vector()), f"{file} is of other weights than these; {again}")
    require(len(pairs.values) > 1, f"{file} must hold two eigenvectors, got one; take landscape spectrum --k 2 or more")
    made = hessian_directions(problem, pairs=pairs)
    made.details["kind"] = manifest.get("matrix", "hessian")
    return made
