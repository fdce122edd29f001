"""`landscape spectrum`: eigenvalues with bounds, trace and density of a network's curvature: table, figure, files."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import click
import torch
from matplotlib.figure import Figure
from torch import Tensor

from landscape.checks import integer_in
from landscape.cli.eigenvectors import holds, keep_vectors, vectors_beside
from landscape.cli.source import FOLDER, LARGEST_SEED, Source, source_options
from landscape.curvature import fisher, ggn, hessian
from landscape.linalg import spectral_density, top_eigenpairs, trace
from landscape.linalg.operator import CurvatureOperator
from landscape.plots import add_caption, plot_density, save_with_data
from landscape.plots.captions import MATRICES as TITLES
from landscape.problem import Problem
from landscape.report.study import writable
from landscape.storage.array_checkpoint import fingerprint
from landscape.storage.event_log import EventLog
from landscape.storage.manifest import write_rows
from landscape.storage.results import EigenPairs, SpectralDensity
from landscape.storage.results.record import Result

MATRICES: dict[str, Callable[[Problem], CurvatureOperator]] = {"hessian": hessian, "ggn": ggn, "fisher": fisher}
DEFAULTS: dict[str, Any] = {
    "matrix": "hessian",
    "k": 10,
    "which": "LM",
    "probes": 8,
    "steps": 64,
    "matvecs": 60,
    "seed": 0,
}
OMITTED = ("vectors",)  # (P, k): in a file of their own
Found = dict[str, dict[str, Any]]  # part to its fields, tensors as lists
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("spectrum")
@source_options
@click.option("--matrix", type=click.Choice(list(MATRICES)), default=DEFAULTS["matrix"], show_default=True)
@click.option(
    "--k", type=int, default=DEFAULTS["k"], show_default=True, help="Eigenvalues, each with a bound of its error."
)
@click.option(
    "--which",
    type=click.Choice(["LM", "LA", "SA"]),
    default=DEFAULTS["which"],
    show_default=True,
    help="Largest in magnitude, largest, or smallest.",
)
@click.option("--matvecs", type=int, default=DEFAULTS["matvecs"], show_default=True, help="Products for the trace.")
@click.option(
    "--probes", type=int, default=DEFAULTS["probes"], show_default=True, help="Random vectors of the density."
)
@click.option(
    "--steps", type=int, default=DEFAULTS["steps"], show_default=True, help="Lanczos steps, products, of each probe."
)
@click.option("--samples", type=int, default=None, help="Use the first so many training images of RUN.")
@click.option("--seed", type=int, default=DEFAULTS["seed"], show_default=True)
@click.option("--out", type=FOLDER, default=None, help="Where to; default RUN, or here.")
@click.option("--resume", type=FILE, default=None, help="Keeps what is done; the same command goes on from there.")
def spectrum_command(
    source: Source, out: Path | None, resume: Path | None, samples: int | None, **settings: Any
) -> None:
    """Eigenvalues with error bounds, trace and density of the loss's curvature: a table, a figure, CSV and JSON.

    The eigenvectors lie beside them, for landscape slice --directions.
    """
    _check_sizes(samples, settings)
    out = out or source.folder
    writable(out)
    problem, _ = source.open(samples)
    stem = out / _stem({**settings, "samples": samples})
    vectors = vectors_beside(stem)
    with _resumed(resume, problem, settings, vectors) as once:
        found = _computed(problem, settings, once, vectors)
    about = f"{TITLES[settings['matrix']]} of the loss of {source}"
    size = f"{problem.size:,} parameters, {problem.extent}"
    click.echo("\n".join([f"{about}: {size}", *_lines(found)]))
    made = _save(found, stem, f"{about}; {size}", run=str(source), settings={**settings, "samples": samples})
    for path in [*made, vectors]:
        click.echo(f"{path}")


def _check_sizes(samples: int | None, settings: Mapping[str, Any]) -> None:
    """Check numbers before anything is read."""
    for name, low in (("k", 1), ("matvecs", 4), ("probes", 1), ("steps", 1)):
        integer_in(f"--{name}", settings[name], low)
    integer_in("--seed", settings["seed"], 0, LARGEST_SEED)
    if samples is not None:
        integer_in("--samples", samples, 1)


def _computed(
    problem: Problem, settings: Mapping[str, Any], once: Callable[..., dict[str, Any]], vectors: Path
) -> Found:
    """All parts; those that an earlier run has kept are not done again."""
    operator = MATRICES[settings["matrix"]](problem)

    def eigenvalues(how: dict[str, Any]) -> EigenPairs:
        pairs = top_eigenpairs(operator, settings["k"], which=settings["which"], **how)
        keep_vectors(pairs, vectors, problem, matrix=settings["matrix"])
        return pairs

    parts: dict[str, Callable[[dict[str, Any]], Result]] = {
        "eigenvalues": eigenvalues,
        "trace": lambda how: trace(operator, matvecs=settings["matvecs"], **how),
        "density": lambda how: spectral_density(operator, probes=settings["probes"], steps=settings["steps"], **how),
    }
    found = {}
    for name, compute in parts.items():
        generator = torch.Generator().manual_seed(settings["seed"])
        found[name] = once(name, lambda path, compute=compute, g=generator: compute({"generator": g, "resume": path}))
    return found


@contextmanager
def _resumed(
    path: Path | None, problem: Problem, settings: Mapping[str, Any], vectors: Path
) -> Iterator[Callable[[str, Callable[[Path | None], Result]], dict[str, Any]]]:
    """A function (name, compute) to the fields of what is computed, or of what an earlier run has kept of it.

    Eigenvalues whose vectors do not lie there are computed anew.
    """
    if path is None:
        yield lambda name, compute: _plain(_said(name, compute, None))
        return
    fixed = {"weights": fingerprint(problem.vector()), "data": str(problem.extent), "batch_norm": problem.batch_norm}
    log = EventLog(path, {**fixed, **settings}, problem.loss().double().cpu()[None])
    kept = dict(log.read(tuple))
    if "eigenvalues" in kept and not holds(vectors, kept["eigenvalues"]["values"]):
        del kept["eigenvalues"]
    with log.opened() as keep:

        def once(name: str, compute: Callable[[Path | None], Result]) -> dict[str, Any]:
            if name not in kept:
                kept[name] = _plain(_said(name, compute, path.with_name(f"{path.name}.{name}.npz")))
                keep([name, kept[name]])
            return kept[name]

        yield once


def _said(name: str, compute: Callable[[Path | None], Result], path: Path | None) -> Result:
    click.echo(f"{name} ...", err=True)
    return compute(path)


def _plain(result: Result) -> dict[str, Any]:
    """The fields as JSON holds them."""
    content = {item.name: getattr(result, item.name) for item in fields(result) if item.name not in OMITTED}
    return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in content.items()}


def _rows(found: Found) -> list[dict[str, Any]]:
    """quantity, value, error (a bound for eigenvalues, a standard error for the trace), converged."""
    pairs, total = found["eigenvalues"], found["trace"]
    each = zip(pairs["values"], pairs["residuals"], pairs["converged"], strict=True)
    heads = ("quantity", "value", "error", "converged")
    rows = [(f"eigenvalue {i}", *numbers) for i, numbers in enumerate(each, start=1)]
    return [dict(zip(heads, row, strict=True)) for row in [*rows, ("trace", total["value"], total["stderr"], None)]]


def _lines(found: Found) -> list[str]:
    """The table, and what the numbers rest on."""
    rows = [(row["quantity"], f"{row['value']:.6g}", f"± {row['error']:.2g}", row["converged"]) for row in _rows(found)]
    widths = [max(len(str(row[i])) for row in rows) for i in range(3)]
    lines = []
    for name, value, error, converged in rows:
        line = f"{name:{widths[0]}}  {value:>{widths[1]}}  {error:{widths[2]}}"
        lines.append(f"{line}  not converged" if converged is False else line.rstrip())
    density, products = found["density"], sum(part["matvecs"] for part in found.values())
    ends = [end(node for row in density["nodes"] for node in row) for end in (min, max)]
    lines.append(f"density from {ends[0]:.4g} to {ends[1]:.4g}; {products:,} products in all")
    lines.append("± of an eigenvalue is a bound: one lies within; ± of the trace is its standard error")
    off = found["eigenvalues"]["verified"]
    if off is not None:
        said = "decided by none" if off != off else f"off by {off:.1g}"  # NaN
        lines.append(f"a product held against differences of gradients: {said}")
    return lines


def _stem(settings: Mapping[str, Any]) -> str:
    """A name for each choice that changes the numbers; the defaults are not in it."""
    told = {name: settings[name] for name in (*DEFAULTS, "samples") if name != "matrix"}  # in whatever order they came
    chosen = [f"{name}{value}" for name, value in told.items() if value not in (None, DEFAULTS.get(name))]
    return "-".join(["spectrum", settings["matrix"], *chosen])


def _save(found: Found, stem: Path, about: str, **manifest: Any) -> list[Path]:
    """Figure, density, CSV and JSON; the JSON is the density's, with all other numbers in it."""
    content = found["density"]
    tensors = {name: torch.tensor(content[name], dtype=torch.float64) for name in ("nodes", "weights", "outliers")}
    density = SpectralDensity(**{**content, **tensors})
    values, how = found["eigenvalues"]["values"], manifest["settings"]
    figure = cast(Figure, plot_density(density, eigenvalues=values, scale="symlog").figure)
    drawn = (
        f"{how['probes']} probes of {how['steps']} Lanczos steps, seed {how['seed']}; ticks: {len(values)} eigenvalues"
    )
    add_caption(figure, f"{about}; {drawn}.")
    numbers: dict[str, Any] = {name: part for name, part in found.items() if name != "density"}
    csv = write_rows(stem.with_name(f"{stem.name}.csv"), _rows(found))
    *figures, data = save_with_data(figure, density, stem, **numbers, **manifest)
    return [*figures, csv, data.with_name(f"{stem.name}.json")]
