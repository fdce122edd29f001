"""The package on a GPU: its functions against the CPU, then what they cost on three networks, beside other packages.

    python analysis_scripts/benchmarks/gpu.py [--minutes 8] [--device cuda] [--small] [--out FILE.json]

Needs torch and what the package itself needs; another package that is missing has rows that say so. Writes the JSON
anew after each row; the table comes last, also when the time is over before all rows are there.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # an installation is not asked for

import click  # noqa: E402
import torch  # noqa: E402
from contenders import QUESTIONS, curvlinops_product, pyhessian_product  # noqa: E402
from device_calls import CALLS  # type: ignore[import-not-found]  # noqa: E402
from device_place import Place, numbers  # type: ignore[import-not-found]  # noqa: E402
from large import NETWORKS  # noqa: E402
from measure import own_peak, timed  # noqa: E402
from setting import Config, Setting  # noqa: E402
from time_limit import OutOfTimeError, ended_after  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

import landscape as ls  # noqa: E402
from landscape.autograd.cuda_graphs import FLAG  # noqa: E402
from landscape.autograd.precision import full_precision  # noqa: E402
from landscape.curvature.columns import SMALL_NETWORK  # noqa: E402
from landscape.storage.results import versions, write_json  # noqa: E402

POINTS = {True: 3, False: 5}  # of a grid, a side; of a small run or not
EVERY = 12  # call of the device subset is tried in a small run
WHOLE = 4  # batches of a network up to which top-10, trace and density are asked for all of them
SUBSET = 0.35  # share of the time for the device subset
ROW, LEAST = 0.2, 20.0  # share of the time left that one row may take, and seconds that it may take in any case
RTOL, ATOL = 1e-5, 1e-7  # between devices, float64


@dataclass(frozen=True)
class Job:
    """One row: a call whose seconds count, unless it returns numbers of its own."""

    network: str
    question: str
    contender: str
    call: Callable[[], Any]
    repeats: int = 1


Stage = Callable[[str, Setting, bool], Iterator[Job]]


class Run:
    """Rows as they come, until the time is over."""

    def __init__(self, out: Path, config: Config, minutes: float) -> None:
        self.out, self.config, self.end = out, config, monotonic() + 60 * minutes
        self.gradients: dict[str, float] = {}
        name = torch.cuda.get_device_name() if config.device == "cuda" else "CPU"
        self.found: dict[str, Any] = {"device": name, "minutes": minutes, "versions": versions(), "rows": []}

    def note(self, **row: Any) -> None:
        self.found["rows"].append(row)
        write_json(self.out, self.found)
        click.echo(line(row), err=True)

    def seconds_left(self) -> float:
        """Raises OutOfTimeError where there are none."""
        left = self.end - monotonic()
        if left <= 0:
            raise OutOfTimeError
        return left

    def do(self, job: Job) -> None:
        """A row, also where the call fails or takes too long."""
        row: dict[str, Any] = {"network": job.network, "question": job.question, "contender": job.contender}
        limit = max(ROW * self.seconds_left(), min(LEAST, self.seconds_left()))
        try:
            with ended_after(limit):
                if self.config.device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                found = [timed(job.call) for _ in range(job.repeats)]
                row["seconds"] = min(spent for spent, _ in found)
                row["megabytes"] = own_peak(self.config.device)
                row["products"] = getattr(found[-1][1], "matvecs", None)
        except OutOfTimeError:
            self.seconds_left()  # the end of the whole
            row["failure"] = f"given up after {limit:.0f} s"
        except Exception as failure:
            row["failure"] = words(failure)
        else:
            if job.question == "gradient":
                self.gradients[job.network] = row["seconds"]
            if job.network in self.gradients:
                row["gradients"] = row["seconds"] / self.gradients[job.network]
        if self.config.device == "cuda":
            with suppress(RuntimeError):  # of a GPU that an error has left unusable: the rows still say so
                torch.cuda.empty_cache()
        self.note(**row)


def main(out: Path, config: Config, *, minutes: float, small: bool) -> dict[str, Any]:
    """All rows for which there is time; prints the table and returns what the JSON holds."""
    run = Run(out, config, minutes)
    stages: list[Stage] = [products, replays, slices_and_steps, *(partial(asked, question) for question in QUESTIONS)]
    try:
        with full_precision():  # or the others would multiply in TensorFloat-32, which ours switches off
            subset(run, config.device, EVERY if small else 1)
            settings = {}
            for name, make in NETWORKS.items():
                try:
                    settings[name] = make(config, small)
                except Exception as failure:
                    run.note(network=name, question="all", contender="", failure=words(failure))
            first = list(settings)[:1]  # the small one, all of whose rows take seconds
            for names in (first, [name for name in settings if name not in first]):
                for stage, name in product(stages, names):
                    for job in stage(name, settings[name], small):
                        run.do(job)
    except OutOfTimeError:
        run.note(network="", question="", contender="", failure=f"{minutes:g} minutes are over")
    finally:
        click.echo(table(run.found))
    return run.found


def subset(run: Run, device: str, every: int) -> None:
    """The calls of the device tests on the device against the CPU, float64; a row for each that differs."""
    names, tried, wrong = list(CALLS)[::every], 0, 0
    share = monotonic() + SUBSET * run.seconds_left()
    while tried < len(names) and monotonic() < share:
        name = names[tried]
        tried += 1
        try:
            with ended_after(run.seconds_left()):
                expected, found = (_answer(name, torch.device(kind)) for kind in ("cpu", device))
                torch.testing.assert_close(found, expected, rtol=RTOL, atol=ATOL, equal_nan=True)
        except Exception as failure:
            wrong += 1
            run.note(network="small", question="device subset", contender=name, failure=words(failure))
    run.note(network="small", question="device subset", contender="all", calls=tried, of=len(names), wrong=wrong)


def products(name: str, setting: Setting, small: bool) -> Iterator[Job]:
    """A gradient, and a product by each package."""
    v = torch.randn(setting.size, generator=torch.Generator().manual_seed(0)).to(setting.batches[0][0].device)
    H = ls.hessian(setting.problem)
    repeats = 1 if small else 3
    yield Job(name, "gradient", "torch", setting.gradient, 1 + repeats)  # the first one warms up
    yield Job(name, "first product", "ours", lambda: H.matvec(v))
    yield Job(name, "product", "ours", lambda: H.matvec(v), repeats)
    del H  # and the graphs that it keeps: the others' memory is measured
    yield Job(name, "product", "plain torch", lambda: _math(lambda: setting.double_backward(v)), repeats)
    yield Job(name, "product", "pyhessian", lambda: _math(pyhessian_product(setting, v)), repeats)
    yield Job(name, "product", "curvlinops", lambda: _math(curvlinops_product(setting, v)), repeats)
    G = ls.ggn(setting.problem)
    yield Job(name, "GGN product", "ours", lambda: G.matvec(v), repeats)


def replays(name: str, setting: Setting, small: bool) -> Iterator[Job]:
    """A product and a grid by CUDA graphs, of a network that waits for launches; beside those of the other stages."""
    if setting.size > SMALL_NETWORK:
        return
    v = torch.randn(setting.size, generator=torch.Generator().manual_seed(0)).to(setting.batches[0][0].device)
    with patch.dict(os.environ, {FLAG: "1"}):
        H: Any = ls.hessian(setting.problem)

    def again() -> None:
        H.matvec(v)
        if not H.report.replays:
            raise RuntimeError(f"not replayed: {H.report.not_replayed}")

    def grid() -> None:
        with patch.dict(os.environ, {FLAG: "1"}):
            said = _grid(setting, small).details["cuda_graphs"]
        if said.startswith("0 "):
            raise RuntimeError(f"not replayed: {said}")

    def first() -> None:
        for vector in (v, v.flip(0), v.cos()):  # the graph is built, recorded, and held against another product
            H.matvec(vector)

    yield Job(name, "3 products", "ours, replayed", first)
    yield Job(name, "product", "ours, replayed", again, 1 if small else 3)
    yield Job(name, _size(small), "ours, replayed", grid)


def slices_and_steps(name: str, setting: Setting, small: bool) -> Iterator[Job]:
    """A grid of losses beside the forward passes of as many points; a step of SAM beside one of SGD."""
    yield Job(name, _size(small), "ours", lambda: _grid(setting, small))
    yield Job(name, _size(small), "forward passes", lambda: _passes(setting, POINTS[small] ** 2))
    x, t = setting.batches[0]
    base = torch.optim.SGD(setting.model.parameters(), lr=1e-6, momentum=0.9)

    def closure() -> torch.Tensor:
        base.zero_grad()
        loss = setting.criterion(setting.model(x), t)
        loss.backward()
        return loss

    sam = ls.SharpnessAware(base, ls.rules.sam(), model=setting.model)
    for contender, optimizer in (("sgd", base), ("sam", sam)):
        yield Job(name, "step", contender, partial(_steps, optimizer, closure, 1 if small else 5))
    base.zero_grad()


def asked(question: str, name: str, setting: Setting, _small: bool) -> Iterator[Job]:
    """A question to every package; of a large network on its first batch, for which there is time."""
    if len(setting.batches) > WHOLE:
        name = f"{name}, {len(setting.batches[0][0])}"
        setting = replace(setting, batches=setting.batches[:1])
        yield Job(name, "gradient", "torch", setting.gradient, 2)
    for contender, answer in QUESTIONS[question].items():
        yield Job(name, question, contender, partial(_math, partial(answer, setting, 0)))


def words(failure: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(failure, ImportError):
        return f"not installed: {failure.name}"
    return " ".join(f"{type(failure).__name__}: {failure}".split())[:200]


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    head = f"{row['network']:15} {row['question']:14} {row['contender']:15}"
    if "failure" in row:
        return f"{head} {row['failure']}"
    if "calls" in row:
        return f"{head} {row['calls']} of {row['of']} calls, {row['wrong']} wrong"
    text = f"{head} {row['seconds']:9.4f} s {row.get('gradients', float('nan')):8.2f} gradients"
    return f"{text} {row['megabytes']:8.0f} MB" + (f" {row['products']} products" if row["products"] else "")


def table(found: dict[str, Any]) -> str:
    """The results as text."""
    return "\n".join([f"{found['device']}, torch {torch.__version__}", *map(line, found["rows"])])


def _answer(name: str, device: torch.device) -> list[torch.Tensor]:
    with TemporaryDirectory() as folder:
        return [number.cpu() for number in numbers(CALLS[name](Place(device, Path(folder))))]


def _size(small: bool) -> str:
    return f"{POINTS[small]} x {POINTS[small]} grid"


def _grid(setting: Setting, small: bool) -> ls.Slice2D:
    problem, span = setting.problem, (-0.5, 0.5, POINTS[small])
    d1, d2 = ls.random_directions(problem)
    return ls.slice_2d(problem, d1, d2, span, span, progress=False)


def _math(call: Callable[[], Any]) -> Any:
    """Attention by plain matrix products, which alone can be differentiated twice."""
    with sdpa_kernel(SDPBackend.MATH):
        return call()


@torch.no_grad()
def _passes(setting: Setting, count: int) -> None:
    for _ in range(count):
        for x, t in setting.batches:
            setting.criterion(setting.model(x), t)


def _steps(optimizer: Any, closure: Callable[[], torch.Tensor], count: int) -> None:
    for _ in range(count):
        optimizer.step(closure)


@click.command()
@click.option("--minutes", default=8.0, show_default=True, help="Then it ends with what is there.")
@click.option("--device", default="cuda", show_default=True)
@click.option("--small", is_flag=True, help="Toys, to see that it runs.")
@click.option("--out", type=click.Path(path_type=Path), default=Config.out / "gpu.json", show_default=True)
def command(minutes: float, device: str, small: bool, out: Path) -> None:
    """Measure the package on a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("no GPU is there; --device cpu --small shows that the script runs")
    out.parent.mkdir(parents=True, exist_ok=True)
    config = Config(device=device, chunk=None)
    toy: dict[str, Any] = {"k": 2, "trace_matvecs": 8, "density_steps": 6, "chunk": 2}
    main(out, replace(config, **toy) if small else config, minutes=minutes, small=small)


if __name__ == "__main__":
    command()
