"""Products, Lanczos steps and messages at 1e5 to 1e8 parameters and on 1, 2 and 4 ranks, beside the cost model.

    python analysis_scripts/benchmarks/scale.py [--quick] [--out FOLDER]

Perceptrons of two wide layers, one batch. Ranks are gloo processes of one thread on one machine: each has its share of
the batch, the weights whole (`with_processes`) or sharded by FSDP2. The model's constants, floating-point operations,
bytes of memory and bytes of messages a second, are measured in the same run; its forms stand in `predicted`. More
ranks than cores share them. Writes scale.json; the table comes last.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from measure import own_peak, seconds
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy

import landscape as ls
from landscape.storage.results import read_json, versions, write_json

ENTRY = 4  # bytes


@dataclass(frozen=True)
class Config:
    """A run of the benchmark.

    Attributes:
        out: folder of the JSON file.
        sizes: parameters of the networks measured in one process.
        shared: parameters of those measured on several ranks.
        ranks: how many processes.
        samples: of the batch.
        basis: vectors of the basis when a Lanczos step is timed.
        repeats: of every timing, of which the median counts.
    """

    out: Path = Path("figures/benchmarks")
    sizes: tuple[int, ...] = (10**5, 10**6, 10**7, 10**8)
    shared: tuple[int, ...] = (10**6, 10**7)
    ranks: tuple[int, ...] = (1, 2, 4)
    samples: int = 64
    basis: int = 8
    repeats: int = 3


QUICK: dict[str, Any] = {"sizes": (10**4,), "shared": (10**4,), "ranks": (1, 2), "repeats": 1}


def network(size: int) -> nn.Sequential:
    """About so many parameters, nearly all of them in one square layer."""
    torch.manual_seed(0)
    width = round(((74 + 2) ** 2 / 4 + size) ** 0.5 - (74 + 2) / 2)
    return nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))


def batch(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and classes."""
    source = torch.Generator().manual_seed(1)
    return torch.randn(samples, 64, generator=source), torch.randint(10, (samples,), generator=source)


def main(config: Config) -> dict[str, Any]:
    """Measure and write."""
    torch.set_num_threads(1)
    machine = constants(config)
    rows = [_row(config, machine, size, 1, "one process", alone(config, size)) for size in config.sizes]
    for size in config.shared:
        for ranks in config.ranks:
            for way, found in together(config, size, ranks).items():
                rows.append(_row(config, machine, size, ranks, way, found))
    content = {"constants": machine, "rows": rows, "cores": os.cpu_count(), "versions": versions()}
    write_json(config.out / "scale.json", content)
    return content


def constants(config: Config) -> dict[str, float]:
    """Operations, bytes of memory and bytes of messages a second, of one core and of two ranks."""
    a, x = torch.randn(1024, 1024), torch.randn(1024, config.samples)
    long = torch.randn(2 * 10**7)
    rate = 2 * 1024**2 * config.samples / _median(config, lambda: a @ x)
    memory = 2 * ENTRY * long.numel() / _median(config, long.clone)
    sent = ENTRY * 10**7 / _on_ranks(config, 2, 10**7, _message)["message"]
    return {"operations": rate, "memory": memory, "messages": sent}


def predicted(config: Config, machine: dict[str, float], size: int, ranks: int, way: str) -> dict[str, float]:
    """Seconds by the model: of a gradient, of a Hessian product, of the rest of a Lanczos step.

    A gradient is 6 P B operations, and reads or writes its weights four times; a product from kept graphs is two, and
    of a sharded model four. The rest of a step reads the basis four times. An all-reduce sends P numbers, a sharded
    gradient gathers weights twice and scatters gradients once.
    """
    cores = min(ranks, os.cpu_count() or 1)
    work = 6 * size * config.samples / cores / machine["operations"]
    gradient = work + 4 * ENTRY * size * ranks / cores / machine["memory"]
    whole = ENTRY * size / machine["messages"] if ranks > 1 else 0.0
    basis = 4 * (config.basis + 1) / 2 * ENTRY * size / machine["memory"]  # it grows from 1 vector on
    if way == "sharded":
        return {"gradient": gradient + 3 * whole, "product": 4 * (gradient + 3 * whole), "rest": basis / cores}
    return {"gradient": gradient + whole, "product": 2 * gradient + whole, "rest": basis * ranks / cores}


def alone(config: Config, size: int) -> dict[str, float]:
    """Seconds in this process."""
    problem = ls.Problem(network(size), cross_entropy, batch(config.samples))
    return {**timings(config, problem), "peak": own_peak("cpu")}


def together(config: Config, size: int, ranks: int) -> dict[str, dict[str, float]]:
    """Seconds of the slowest rank, by how the work is dealt out."""
    if ranks == 1:
        return {}
    return {way: _on_ranks(config, ranks, size, work) for way, work in (("data", _data), ("sharded", _sharded))}


def timings(config: Config, problem: ls.Problem) -> dict[str, float]:
    """Of a gradient, of a product after the first one, and of what a Lanczos step takes beyond its product."""
    H = ls.hessian(problem)
    v = torch.ones(len(problem.vector()))
    H @ v
    steps = config.basis
    options: Any = {"block_size": 1, "max_matvecs": steps, "basis_size": steps, "progress": False}
    lanczos = _median(config, lambda: ls.top_eigenpairs(H, 1, tol=1e-12, **options))
    product = _median(config, lambda: H @ v)
    return {"gradient": _median(config, problem.gradient), "product": product, "rest": lanczos / steps - product}


def _median(config: Config, call: Callable[[], Any]) -> float:
    call()
    return median(seconds(call) for _ in range(config.repeats))


def _row(
    config: Config, machine: dict[str, float], size: int, ranks: int, way: str, found: dict[str, float]
) -> dict[str, Any]:
    return {"P": size, "ranks": ranks, "way": way, **found, "model": predicted(config, machine, size, ranks, way)}


def _message(config: Config, size: int) -> dict[str, float]:
    whole = torch.zeros(size)
    return {"message": _median(config, lambda: distributed.all_reduce(whole))}


def _data(config: Config, size: int) -> dict[str, float]:
    return timings(
        config, ls.Problem(network(size), cross_entropy, _own(config)).with_processes(distributed.group.WORLD)
    )


def _sharded(config: Config, size: int) -> dict[str, float]:
    model = network(size)
    fully_shard(model)
    return timings(config, ls.Problem(model, cross_entropy, _own(config)))


def _own(config: Config) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = batch(config.samples)
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    return x[rank::ranks], y[rank::ranks]


def _on_ranks(config: Config, ranks: int, size: int, work: Callable[..., dict[str, float]]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        spawn(_rank, (folder, ranks, config, size, work), ranks)
        found = [read_json(Path(folder) / f"{rank}.json") for rank in range(ranks)]
    return {name: max(own[name] for own in found) for name in found[0]}


def _rank(rank: int, folder: str, ranks: int, config: Config, size: int, work: Callable[..., dict[str, float]]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    write_json(Path(folder) / f"{rank}.json", work(config, size))
    distributed.destroy_process_group()


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Toys, to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), default=Config.out, show_default=True)
def command(quick: bool, out: Path) -> None:
    """Measure, write, print the table."""
    for row in main(replace(Config(out=out), **(QUICK if quick else {})))["rows"]:
        cells = [f"{row['P']:,}", f"{row['ranks']} {row['way']}"]
        cells += [f"{row[key]:.3g} ({row['model'][key]:.3g})" for key in ("gradient", "product", "rest")]
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    command()
