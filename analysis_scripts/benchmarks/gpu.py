"""The package on a GPU: its functions against the CPU, then what they cost on three networks, beside other packages.

    python analysis_scripts/benchmarks/gpu.py [--minutes 8] [--device cuda] [--small] [--out FILE.json]

Needs torch and what the package itself needs; another package that is missing has rows that say so. Writes the JSON
anew after each row; the table comes last, also when the time is over before all rows are there.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

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
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

import landscape as ls  # noqa: E402
from landscape.storage.results import versions, write_json  # noqa: E402

EVERY = 12  # call of the device subset is tried in a small run
MOST = {"eigenvalues": 400, "trace": 100, "density": 100}  # products that are reckoned with
SLOWEST = 5.0  # gradients that a product is reckoned to cost
RTOL, ATOL = 1e-5, 1e-7  # between devices, float64


class OutOfTimeError(BaseException):
    """The minutes are over; no Exception, for those are caught on the way by code that tries things."""


@dataclass(frozen=True)
class Job:
    """One row: a call whose seconds count, unless it returns numbers of its own."""

    network: str
    question: str
    contender: str
    call: Callable[[], Any]
    gradients: float  # that it is reckoned to cost at most
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
        """A row, also where the call fails or would take too long."""
        row: dict[str, Any] = {"network": job.network, "question": job.question, "contender": job.contender}
        unit = self.gradients.get(job.network)
        left = self.seconds_left()
        if unit and job.gradients * unit > left:
            self.note(**row, failure=f"left out: may take {job.gradients * unit:.0f} s, {left:.0f} s are left")
            return
        try:
            if self.config.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            found = [timed(job.call) for _ in range(job.repeats)]
            row["seconds"] = min(spent for spent, _ in found)
            row["megabytes"] = own_peak(self.config.device)
            row["products"] = getattr(found[-1][1], "matvecs", None)
            if job.question == "gradient":
                self.gradients[job.network] = unit = row["seconds"]
            if unit:
                row["gradients"] = row["seconds"] / unit
        except OutOfTimeError:
            raise
        except ImportError as missing:
            row["failure"] = f"not installed: {missing.name}"
        except Exception as failure:
            row["failure"] = f"{type(failure).__name__}: {failure}".splitlines()[0][:200]
        if self.config.device == "cuda":
            torch.cuda.empty_cache()
        self.note(**row)


def main(out: Path, config: Config, *, minutes: float, small: bool) -> dict[str, Any]:
    """All rows for which there is time; prints the table and returns what the JSON holds."""
    run = Run(out, config, minutes)
    try:
        with ended_after(60 * minutes):
            subset(run, config.device, EVERY if small else 1)
            settings = {}
            for name, make in NETWORKS.items():
                try:
                    settings[name] = make(config, small)
                except ImportError as missing:
                    run.note(network=name, question="all", contender="", failure=f"not installed: {missing.name}")
            stages: list[Stage] = [products, slices_and_steps, *(partial(asked, question) for question in QUESTIONS)]
            for stage in stages:
                for name, setting in settings.items():
                    for job in stage(name, setting, small):
                        run.do(job)
    except OutOfTimeError:
        run.note(network="", question="", contender="", failure=f"{minutes:g} minutes are over")
    click.echo(table(run.found))
    return run.found


def subset(run: Run, device: str, every: int) -> None:
    """The calls of the device tests on the device against the CPU, float64; a row for each that differs."""
    wrong = 0
    names = list(CALLS)[::every]
    for name in names:
        try:
            expected, found = (_answer(name, torch.device(kind)) for kind in ("cpu", device))
            torch.testing.assert_close(found, expected, rtol=RTOL, atol=ATOL, equal_nan=True)
        except OutOfTimeError:
            raise
        except Exception as failure:
            wrong += 1
            words = " ".join(f"{type(failure).__name__}: {failure}".split())[:200]
            run.note(network="small", question="device subset", contender=name, failure=words)
    run.note(network="small", question="device subset", contender="all", calls=len(names), wrong=wrong)


def products(name: str, setting: Setting, small: bool) -> Iterator[Job]:
    """A gradient, and a product by each package."""
    v = torch.randn(setting.size, generator=torch.Generator().manual_seed(0)).to(setting.batches[0][0].device)
    H = ls.hessian(setting.problem)
    repeats = 1 if small else 3
    setting.gradient()  # warms up
    yield Job(name, "gradient", "torch", setting.gradient, 3, repeats)
    yield Job(name, "first product", "ours", lambda: H.matvec(v), 2 * SLOWEST)
    yield Job(name, "product", "ours", lambda: H.matvec(v), SLOWEST, repeats)
    del H  # and the graphs that it keeps: the others' memory is measured
    yield Job(name, "product", "plain torch", lambda: _math(lambda: setting.double_backward(v)), SLOWEST, repeats)
    yield Job(name, "product", "pyhessian", lambda: _math(pyhessian_product(setting, v)), SLOWEST, repeats)
    yield Job(name, "product", "curvlinops", lambda: _math(curvlinops_product(setting, v)), SLOWEST, repeats)
    G = ls.ggn(setting.problem)
    yield Job(name, "GGN product", "ours", lambda: G.matvec(v), SLOWEST, repeats)


def slices_and_steps(name: str, setting: Setting, small: bool) -> Iterator[Job]:
    """A grid of losses beside the forward passes of as many points; a step of SAM beside one of SGD."""
    points = 3 if small else 5
    d1, d2 = ls.random_directions(setting.problem)
    span = (-0.5, 0.5, points)
    grid = partial(ls.slice_2d, setting.problem, d1, d2, span, span, progress=False)
    yield Job(name, f"{points} x {points} grid", "ours", grid, points**2)
    yield Job(name, f"{points} x {points} grid", "forward passes", lambda: _passes(setting, points**2), points**2)
    x, t = setting.batches[0]
    base = torch.optim.SGD(setting.model.parameters(), lr=1e-6, momentum=0.9)

    def closure() -> torch.Tensor:
        base.zero_grad()
        loss = setting.criterion(setting.model(x), t)
        loss.backward()
        return loss

    sam = ls.SharpnessAware(base, ls.rules.sam(), model=setting.model)
    for contender, optimizer in (("sgd", base), ("sam", sam)):
        yield Job(name, "step", contender, partial(_steps, optimizer, closure, 1 if small else 5), 10)
    base.zero_grad()


def asked(question: str, name: str, setting: Setting, small: bool) -> Iterator[Job]:
    """A question to every package."""
    for contender, answer in QUESTIONS[question].items():
        cost = 0.0 if small else SLOWEST * MOST[question] * (0.25 if contender == "ours" else 1)
        yield Job(name, question, contender, partial(_math, partial(answer, setting, 0)), cost)


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    head = f"{row['network']:10} {row['question']:14} {row['contender']:15}"
    if "failure" in row:
        return f"{head} {row['failure']}"
    if "calls" in row:
        return f"{head} {row['calls']} calls, {row['wrong']} wrong"
    text = f"{head} {row['seconds']:9.4f} s {row.get('gradients', float('nan')):8.2f} gradients"
    return f"{text} {row['megabytes']:8.0f} MB" + (f" {row['products']} products" if row["products"] else "")


def table(found: dict[str, Any]) -> str:
    """The results as text."""
    return "\n".join([f"{found['device']}, torch {torch.__version__}", *map(line, found["rows"])])


@contextmanager
def ended_after(limit: float) -> Iterator[None]:
    """OutOfTimeError once `limit` seconds are over."""

    def stop(*_: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _answer(name: str, device: torch.device) -> list[torch.Tensor]:
    with TemporaryDirectory() as folder:
        return [number.cpu() for number in numbers(CALLS[name](Place(device, Path(folder))))]


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
    config = Config(device=device)
    toy: dict[str, Any] = {"k": 2, "trace_matvecs": 8, "density_steps": 6, "chunk": 2}
    main(out, replace(config, **toy) if small else config, minutes=minutes, small=small)


if __name__ == "__main__":
    command()
