"""Frozen results. Each saves itself as arrays (npz) beside a readable manifest (JSON) and loads without pickle."""

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from math import pi, sqrt
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from landscape.checks import one_of, require
from landscape.whole_files import replacing

R = TypeVar("R", bound="Result")


@dataclass(frozen=True, eq=False)
class Result:
    """Base of all results: `save` and `load`."""

    def save(self, path: str | Path, **manifest: Any) -> Path:
        """Write PATH.npz (arrays) and PATH.json (what, versions, plain fields, and `manifest`), each in one rename.

        Args:
            path: where to, without a suffix or with .npz.
            manifest: what else the reader should know: seed, settings, wall time; anything JSON can hold.
        Returns:
            The path of the .npz file.
        """
        arrays, plain = {}, {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                arrays[item.name] = _to_numpy(value)
            elif isinstance(value, Mapping) and value and all(isinstance(v, Tensor) for v in value.values()):
                arrays |= {f"{item.name}/{key}": _to_numpy(v) for key, v in value.items()}
            else:
                plain[item.name] = value
        content = {"what": type(self).__name__, "versions": versions(), "fields": plain, **manifest}
        json.dumps(content)  # what JSON cannot hold is complained of before anything is written
        target = _npz(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            np.savez(partial, **arrays)  # type: ignore[arg-type]
        write_json(target.with_suffix(".json"), content)
        return target

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """Read what `save` wrote. Raises ValueError if the files are missing, truncated or of another kind."""
        source = _npz(path)
        manifest = read_json(source.with_suffix(".json"))
        if manifest.get("what") != cls.__name__:
            raise ValueError(f"{source} must hold a {cls.__name__}, got {manifest.get('what')!r}")
        try:
            values = dict(manifest["fields"])
            with source.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                for key in arrays.files:
                    name, _, entry = key.partition("/")
                    tensor = torch.from_numpy(arrays[key])
                    if entry:
                        values.setdefault(name, {})[entry] = tensor
                    else:
                        values[name] = tensor
            return cls(**values)
        except (OSError, ValueError, EOFError, TypeError, KeyError, BadZipFile) as error:
            raise ValueError(
                f"{source} is not a readable {cls.__name__}: {error}; compute and save it again"
            ) from error


@dataclass(frozen=True, eq=False)
class Estimate(Result):
    """A number with its standard error.

    `stderr` is the error of computing the number on the given data: Monte Carlo error over random probes, the
    residual bound of an eigenvalue, 0 where the computation is exact. It is not the sampling error of the data.
    """

    value: Tensor  # () or (n,), float64
    stderr: Tensor  # like value
    matvecs: int = 0  # products with a curvature operator
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class EigenPairs(Result):
    """Eigenpairs of a symmetric operator: an eigenvalue lies within `residuals[i]` of `values[i]`."""

    values: Tensor  # (k,)
    vectors: Tensor  # (P, k), orthonormal
    residuals: Tensor  # (k,), |H v - lambda v|
    converged: Tensor  # (k,), bool
    matvecs: int


@dataclass(frozen=True, eq=False)
class BlockSpectra(Result):
    """Leading eigenvalues and trace of each of L diagonal blocks; NaN where a block has fewer than k eigenvalues."""

    names: Sequence[str]  # L
    sizes: Tensor  # (L,), parameters
    values: Tensor  # (L, k), in the order that was asked for
    residuals: Tensor  # (L, k), as in EigenPairs
    converged: Tensor  # (L, k), bool
    trace: Tensor  # (L,)
    trace_stderr: Tensor  # (L,)
    matvecs: Tensor  # (L,), products with each block
    passes: int  # products with all blocks together, at most so many passes over the data

    def rows(self) -> list[dict[str, Any]]:
        """One row a block: block, parameters, lambda_1, residual_1, ..., trace, trace_stderr, matvecs."""
        return [self._row(index, name) for index, name in enumerate(self.names)]

    def to_csv(self, path: str | Path) -> Path:
        """Write `rows` as a table with a header; returns the path."""
        rows, target = self.rows(), Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        return target

    def _row(self, index: int, name: str) -> dict[str, Any]:
        pairs = zip(self.values[index].tolist(), self.residuals[index].tolist(), strict=True)
        leading = {
            f"{key}_{i}": number
            for i, pair in enumerate(pairs, start=1)
            for key, number in zip(("lambda", "residual"), pair, strict=True)
        }
        return {
            "block": name,
            "parameters": int(self.sizes[index]),
            **leading,
            "trace": float(self.trace[index]),
            "trace_stderr": float(self.trace_stderr[index]),
            "matvecs": int(self.matvecs[index]),
        }


@dataclass(frozen=True, eq=False)
class SpectralDensity(Result):
    """Spectral density by stochastic Lanczos quadrature, one row per probe, so that a band can be drawn."""

    nodes: Tensor  # (probes, steps + k), Ritz values, then the k outliers
    weights: Tensor  # (probes, steps + k), rows sum to 1; 0 after a breakdown, 1 / P for an outlier
    matvecs: int = 0
    outliers: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))  # (k,), found one by one
    moments: Mapping[str, float] = field(default_factory=dict)  # mean, second, and what they should be; see the makers

    def evaluate(self, grid: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
        """Density smoothed by a Gaussian.

        Args:
            grid: (n,), where to evaluate, in units of eigenvalues.
            bandwidth: the Gaussian's standard deviation, positive.
        Returns:
            Mean over probes and its standard error, (n,) each; the error is NaN for a single probe.
        Raises:
            ValueError: if the bandwidth is not positive.
        """
        if not bandwidth > 0:
            raise ValueError(f"bandwidth must be positive, got {bandwidth!r}")
        nodes, weights = self.nodes.double(), self.weights.double()
        curves = torch.stack(
            [(_gaussian(grid.double()[:, None] - n, bandwidth) * w).sum(1) for n, w in zip(nodes, weights, strict=True)]
        )
        return curves.mean(0), standard_error(curves)


@dataclass(frozen=True, eq=False)
class Slice1D(Result):
    """Loss and accuracy along w + x d. A NaN loss stays NaN."""

    x: Tensor  # (n,)
    loss: Mapping[str, Tensor]  # split -> (n,)
    accuracy: Mapping[str, Tensor]  # split -> (n,), 0..1; NaN where the targets are no classes
    loss_stderr: Mapping[str, Tensor] = field(default_factory=dict)  # split -> (n,), 0 of a whole split; or empty
    details: Mapping[str, Any] = field(default_factory=dict)  # units {split: N}, batch_norm, subset, seconds, ...


@dataclass(frozen=True, eq=False)
class SliceBand(Result):
    """Loss and accuracy along K lines w + x d_k. NaN stays NaN."""

    x: Tensor  # (n,)
    loss: Mapping[str, Tensor]  # split -> (K, n)
    accuracy: Mapping[str, Tensor]  # split -> (K, n), 0..1
    loss_stderr: Mapping[str, Tensor] = field(default_factory=dict)  # split -> (K, n), as in Slice1D
    details: Mapping[str, Any] = field(default_factory=dict)

    def mean(self, split: str, *, what: str = "loss") -> Tensor:
        """Mean over the lines, (n,), of "loss" or "accuracy"; NaN where a line is."""
        return self._lines(split, what).mean(0)

    def band(self, split: str, *, what: str = "loss", level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Lower and upper edge, (n,) each, of what the central share `level` of the lines keeps to, point by point.

        The spread of single lines, not the error of their mean: the quantiles' nearest lines, so that an infinite loss
        stays infinite; 1 is from the lowest line to the highest. NaN where a line is.
        """
        require(0 < level <= 1, f"level must be in (0, 1], got {level!r}")
        edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        low, high = self._lines(split, what).quantile(edges, dim=0, interpolation="nearest")
        return low, high

    def _lines(self, split: str, what: str) -> Tensor:
        one_of("what", what, ("loss", "accuracy"))
        lines: Mapping[str, Tensor] = getattr(self, what)
        one_of("split", split, tuple(lines))
        return lines[split].double()


@dataclass(frozen=True, eq=False)
class Slice2D(Result):
    """Loss and accuracy on the plane w + x d1 + y d2: `loss[split][j, i]` belongs to (x[i], y[j]). NaN stays NaN."""

    x: Tensor  # (nx,)
    y: Tensor  # (ny,)
    loss: Mapping[str, Tensor]  # split -> (ny, nx)
    accuracy: Mapping[str, Tensor]  # split -> (ny, nx)
    norms: Tensor  # (2,), |d1| and |d2|
    cosine: Tensor  # (), of the angle between d1 and d2
    loss_stderr: Mapping[str, Tensor] = field(default_factory=dict)  # split -> (ny, nx), as in Slice1D
    details: Mapping[str, Any] = field(default_factory=dict)


def standard_error(samples: Tensor) -> Tensor:
    """Standard error of the mean over axis 0; NaN for a single sample."""
    count = samples.shape[0]
    return samples.std(0) / sqrt(count) if count > 1 else torch.full_like(samples[0], float("nan"))


def versions() -> dict[str, str]:
    """Versions that a number may depend on."""
    return {
        "landscape": version("landscape-toolkit"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object in one rename."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError in one line if the file is missing or is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be a readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _npz(path: str | Path) -> Path:
    """PATH.npz; a dot in the name, as in lr0.1, is no suffix."""
    path = Path(path)
    return path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")


def _to_numpy(tensor: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _gaussian(x: Tensor, sigma: float) -> Tensor:
    return torch.exp(-0.5 * (x / sigma) ** 2) / (sigma * sqrt(2 * pi))
