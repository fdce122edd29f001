"""Are the standard errors right? How often value ± 1.96 stderr holds the truth, on six kinds of spectra.

300 repetitions with independent seeds for each estimator, spectrum and number of products. A calibrated 95 % interval
covers 90-99 % of them. Writes coverage.npz (errors and stated errors of every run), coverage.json and the figure.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from analysis_scripts._shared.claims import Claim, said
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.over_seeds import lies_in, share
from landscape.linalg import absolute_trace, diagonal, eigenvalue_count, frobenius_norm, log_determinant, trace
from landscape.linalg.operator import MatrixOperator
from landscape.plots.style import OTHERS, legend_above
from landscape.storage.results import Estimate

METHODS = ("xtrace", "hutch++", "hutchinson")
LOW, HIGH = 0.90, 0.99  # of a 95 % interval that deserves its name


@dataclass(frozen=True)
class Config:
    """What is measured; every number of the figure follows from it."""

    size: int = 300
    matvecs: tuple[int, ...] = (30, 60)
    repetitions: int = 300
    probes: int = 6  # of the quadrature; its products stay below `size`, where it would be exact
    steps: int = 24
    outliers: int = 10
    rtol: float = 0.05
    quadrature: bool = True
    folder: str = "figures/trace_calibration"


def spectra(size: int) -> dict[str, Tensor]:
    """The six kinds, (P,) each."""
    i = torch.arange(1, size + 1, dtype=torch.float64)
    outliers = torch.tensor([10, 8, 6, 5, 4, 3, 2, 1.5, -2, -1], dtype=torch.float64)
    return {
        "exponential decay": 0.9 ** (i - 1),
        "power decay": i**-2,
        "flat": torch.linspace(0.5, 1.5, size, dtype=torch.float64),
        "step": torch.where(i <= 20, 1.0, 1e-3).double(),
        "indefinite": torch.cat([torch.linspace(-0.2, 0.2, size - 10, dtype=torch.float64), outliers]),
        "slow decay": i**-0.5,
    }


def estimators(config: Config, matrix: Tensor, values: Tensor) -> Iterator[tuple[str, Callable[..., Estimate], Tensor]]:
    """Name, function of the generator, and the truth."""
    A = MatrixOperator(matrix)
    for matvecs in config.matvecs:
        for method in METHODS:
            yield f"{method}, {matvecs}", partial(trace, A, matvecs=matvecs, method=method), values.sum()
        yield f"diagonal, {matvecs}", partial(diagonal, A, matvecs=matvecs), matrix.diagonal()
        yield f"Frobenius norm, {matvecs}", partial(frobenius_norm, A, matvecs=matvecs), values.norm()
    yield f"xtrace, rtol {config.rtol}", partial(trace, A, rtol=config.rtol, matvecs=config.size // 2), values.sum()
    if not config.quadrature:
        return
    settings: dict[str, Any] = {"probes": config.probes, "steps": config.steps, "outliers": config.outliers}
    shift = 0.1 - float(values.clamp(max=0).min())
    yield "log det", partial(log_determinant, A, shift=shift, **settings), (values + shift).log().sum()
    yield "tr |A|", partial(absolute_trace, A, **settings), values.abs().sum()
    yield "tr |A|^½", partial(absolute_trace, A, power=0.5, **settings), values.abs().sqrt().sum()
    above = 0.1 if float(values.max()) > 0.1 and float(values.min()) < 0.1 else 1.1
    yield "count", partial(eigenvalue_count, A, above=above, **settings), (values > above).double().sum()


def coverage(errors: Tensor, stated: Tensor) -> float:
    """Share of runs, and of entries, that ± 1.96 stderr holds; what is exact up to rounding counts."""
    return float((errors.abs() <= 1.96 * stated + 1e-12).double().mean())


def main(config: Config) -> dict[str, Any]:
    """Coverage of every estimator on every spectrum."""
    table: dict[str, dict[str, float]] = {}
    arrays: dict[str, Tensor] = {}
    source = torch.Generator().manual_seed(0)  # random eigenvectors: on a diagonal matrix, sign vectors would be exact
    q, _ = torch.linalg.qr(torch.randn(config.size, config.size, generator=source, dtype=torch.float64))
    for name, values in spectra(config.size).items():
        matrix = q @ torch.diag(values) @ q.T
        for label, run, truth in estimators(config, (matrix + matrix.T) / 2, values):
            found = [run(generator=torch.Generator().manual_seed(seed)) for seed in range(config.repetitions)]
            errors = torch.stack([each.value - truth for each in found])  # (repetitions,) or (repetitions, P)
            stated = torch.stack([each.stderr for each in found])
            table.setdefault(label, {})[name] = coverage(errors, stated)
            if errors.ndim == 1:  # of the diagonal's entries the coverage is enough
                arrays |= {f"{label}/{name}/error": errors, f"{label}/{name}/stderr": stated}
    sentence = (
        f"Symmetric matrices of size {config.size} with random eigenvectors and six kinds of eigenvalues, "
        f"{config.repetitions} runs each; behind a name the products used. Grey: {100 * LOW:g} to {100 * HIGH:g} %."
    )
    content, own = {"coverage": table, "sentence": sentence}, claims(table, config.repetitions)
    return publish(config, "coverage", content, partial(draw, table), arrays=arrays, claims=own, formats=("png", "pdf"))


def claims(table: dict[str, dict[str, float]], repetitions: int) -> list[Claim]:
    """Of all estimators on all spectra, by intervals that hold for all at once; the farthest from 95 % is named."""
    cells = {(name, kind): own for name, row in table.items() for kind, own in row.items()}
    shares = {cell: share(round(own * repetitions), repetitions, 0.05 / len(cells)) for cell, own in cells.items()}
    verdicts = {lies_in(own, LOW, HIGH) for own in shares.values()}
    name, kind = max(cells, key=lambda cell: abs(cells[cell] - 0.95))
    text = f"of {len(cells)} estimators and spectra the farthest: {said(shares[name, kind])}, {name}, {kind}"
    judged = "differs" if "differs" in verdicts else "cannot say" if "cannot say" in verdicts else "agrees"
    claim = f"value ± 1.96 stderr holds the truth in {100 * LOW:g} to {100 * HIGH:g} % of runs"
    return [Claim("this package, stated errors", claim, text, judged)]


def draw(table: dict[str, dict[str, float]]) -> Figure:
    """One row an estimator, one marker a spectrum; the band is where a 95 % interval should be."""
    figure = Figure(figsize=(5.5, 0.6 + 0.23 * len(table)), layout="compressed")
    ax = figure.add_subplot()
    ax.axvspan(100 * LOW, 100 * HIGH, color="0.9", linewidth=0)
    rows = range(len(table))
    for index, name in enumerate(next(iter(table.values()))):
        color, marker = OTHERS[index]
        shares = [100 * row[name] for row in table.values()]
        ax.plot(shares, rows, linestyle="none", marker=marker, color=color, markersize=4.5, alpha=0.8, label=name)
    ax.axvline(95, color="0.5", linewidth=0.8)
    ax.set_yticks(list(rows), list(table))
    ax.invert_yaxis()
    ax.set_xlabel("runs in which value ± 1.96 stderr holds the truth (%)")
    legend_above(ax, columns=3)
    return figure


if __name__ == "__main__":
    command(main, Config)
