"""Frozen results about an operator: a number with its error, eigenpairs, spectra of blocks, a density."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import pi, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.storage.manifest import write_rows
from landscape.storage.results.record import Result
from landscape.storage.results.shown import Lines, Table, listed, span, with_error


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(Table, Result):
    """A number with its standard error.

    `stderr` is the error of computing the number on the given data: Monte Carlo error over random probes, the
    residual bound of an eigenvalue, 0 where the computation is exact. It is not the sampling error of the data.
    What it cost is known of metrics: `gradient_times` as `cost.py` counts them, without the work that was handed in.
    """

    value: Tensor  # () or (n,), float64
    stderr: Tensor  # like value
    matvecs: int = 0  # products with a curvature operator
    details: Mapping[str, float] = field(default_factory=dict)
    gradient_times: float | None = None
    seconds: float | None = None
    data: str = ""  # on how much: "1,200 units in 2 batches"
    verified: float | None = None  # as the operator's

    @classmethod
    def exact(cls, value: Tensor | float, matvecs: int = 0, **details: float) -> "Estimate":
        """A number that was computed, not sampled: in float64 on the CPU, stderr 0."""
        number = torch.as_tensor(value, dtype=torch.float64, device="cpu")
        return cls(value=number, stderr=torch.zeros_like(number), matvecs=matvecs, details=details)

    @property
    def converged(self) -> bool | None:
        """Whether the iteration behind it ended because nothing changed any more; None where there is none."""
        said = self.details.get("converged", self.details.get("reached"))
        return None if said is None else bool(said)

    def _facts(self) -> dict[str, Any]:
        one = listed(self.value.reshape(-1)) if self.value.numel() == 1 else None
        return {
            "": with_error(one[0], *listed(self.stderr.reshape(-1))) if one else f"{self.value.numel():,} values",
            "converged": self.converged,
            "matvecs": self.matvecs or None,
            "gradient_times": self.gradient_times,
            "seconds": self.seconds,
            "data": self.data,
            "verified": self.verified,
        }

    def _columns(self) -> dict[str, Tensor]:
        return {"value": self.value.reshape(-1), "stderr": self.stderr.reshape(-1)}

    def _preview(self) -> Lines:
        return super()._preview() if self.value.numel() > 1 else []


@dataclass(frozen=True, eq=False, repr=False)
class EigenPairs(Table, Result):
    """Eigenpairs of a symmetric operator: an eigenvalue lies within `residuals[i]` of `values[i]`."""

    values: Tensor  # (k,)
    vectors: Tensor  # (P, k), orthonormal
    residuals: Tensor  # (k,), |H v - lambda v|
    converged: Tensor  # (k,), bool
    matvecs: int
    verified: float | None = None  # as the operator's: how far a product was off from differences of the network

    def _facts(self) -> dict[str, Any]:
        sure = f"{sum(listed(self.converged))} of {len(self.values)}"
        return {"P": self.vectors.shape[0], "converged": sure, "matvecs": self.matvecs, "verified": self.verified}

    def _columns(self) -> dict[str, Tensor]:
        return {"value": self.values, "residual": self.residuals, "converged": self.converged}


@dataclass(frozen=True, eq=False, repr=False)
class BlockSpectra(Table, Result):
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

    def to_csv(self, path: str | Path) -> Path:
        """Write `rows` as a table with a header; returns the path."""
        return write_rows(path, self.rows())

    def _facts(self) -> dict[str, Any]:
        sure = listed(self.converged[~self.values.isnan()])
        return {"blocks": len(self.names), "converged": f"{sum(sure)} of {len(sure)}", "passes": self.passes}

    def _columns(self) -> dict[str, Tensor | Sequence[Any]]:
        """Block, parameters, lambda_1, residual_1, ..., trace, trace_stderr, matvecs."""
        leading = {
            f"{key}_{i + 1}": values[:, i]
            for i in range(self.values.shape[1])
            for key, values in (("lambda", self.values), ("residual", self.residuals))
        }
        return {
            "block": self.names,
            "parameters": self.sizes,
            **leading,
            "trace": self.trace,
            "trace_stderr": self.trace_stderr,
            "matvecs": self.matvecs,
        }


@dataclass(frozen=True, eq=False, repr=False)
class SpectralDensity(Table, Result):
    """Spectral density by stochastic Lanczos quadrature, one row per probe, so that a band can be drawn."""

    nodes: Tensor  # (probes, steps + k), Ritz values, then the k outliers
    weights: Tensor  # (probes, steps + k), rows sum to 1; 0 after a breakdown, 1 / P for an outlier
    matvecs: int = 0
    outliers: Tensor = field(
        default_factory=lambda: torch.empty(0, dtype=torch.float64, device="cpu")
    )  # (k,), found one by one
    moments: Mapping[str, float] = field(default_factory=dict)  # mean, second, and what they should be; see the makers

    def _facts(self) -> dict[str, Any]:
        probes, columns = self.nodes.shape
        return {
            "probes": probes,
            "steps": columns - len(self.outliers),
            "outliers": len(self.outliers),
            "eigenvalues": span(self.nodes[self.weights > 0]),
            "mean": self.moments.get("mean"),
            "matvecs": self.matvecs or None,
        }

    def _columns(self) -> dict[str, Tensor | Sequence[Any]]:
        probes, columns = self.nodes.shape
        of = [probe for probe in range(probes) for _ in range(columns)]
        return {"probe": of, "node": self.nodes.reshape(-1), "weight": self.weights.reshape(-1)}

    def _preview(self) -> Lines:
        return []

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


def standard_error(samples: Tensor) -> Tensor:
    """Standard error of the mean over axis 0; NaN for a single sample."""
    count = samples.shape[0]
    return samples.std(0) / sqrt(count) if count > 1 else torch.full_like(samples[0], float("nan"))


def _gaussian(x: Tensor, sigma: float) -> Tensor:
    return torch.exp(-0.5 * (x / sigma) ** 2) / (sigma * sqrt(2 * pi))
