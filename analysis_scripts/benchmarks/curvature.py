"""Curvature by landscape, PyHessian and curvlinops: the same network, data and machine in one run.

    python analysis_scripts/benchmarks/curvature.py [--quick] [--device cuda] [--threads 2] [--out FOLDER]

Cost is in gradient-times: seconds over the seconds of one gradient of the same loss, measured in between. Writes
curvature.json and the figure curvature.png and .pdf; the table comes last.
"""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from accuracy import error, products_for_one_percent, reference
from contenders import QUESTIONS, Answer
from figure import draw
from measure import peak_megabytes, seconds, timed
from products import PRODUCTS, costs, doubling, lanczos_share
from setting import Config, Setting, trained

from landscape.processes.progress import progress_bar
from landscape.storage.results import read_json, versions, write_json

QUICK: dict[str, Any] = {
    "width": 2,
    "epochs": 1,
    "images": 60,
    "batch_size": 40,
    "k": 2,
    "repeats": 1,
    "trace_matvecs": 12,
    "trace_seeds": 2,
    "trace_budgets": (8,),
    "density_steps": 6,
    "sizes": (2000,),
    "resnet20_images": 0,
    "reference_matvecs": 20,
}
MEMORY = ["product:" + name for name in PRODUCTS] + [
    "product:ours, graphs kept, twice the data",
    "product:ours, nothing kept, twice the data",
]


def main(config: Config, memory: bool = True) -> dict[str, Any]:
    """Measure everything, write JSON and figure, print the table; returns what the JSON holds.

    Each stage is kept in `config.runs` when it is done: a killed run of the same config goes on with the next one.
    """
    torch.set_num_threads(config.threads)
    setting = trained(config)
    stages: dict[str, Callable[[dict[str, Any]], Any]] = {"reference": lambda _: reference(setting)}
    for question in QUESTIONS:
        stages[question] = partial(_ask, question, setting)
    stages |= {
        "product_seconds": lambda _: costs(config),
        "time_on_twice_the_data": lambda _: doubling(config),
        "lanczos": lambda _: lanczos_share(config),
        "trace_to_one_percent": lambda done: products_for_one_percent(config, done["reference"]),
    }
    if memory:
        stages["megabytes"] = lambda done: peaks(config, [row for question in QUESTIONS for row in done[question]])
    found = _staged(config, stages)
    found["answers"] = rows = [row for question in QUESTIONS for row in found.pop(question)]
    found |= {"parameters": setting.size, "machine": _machine(config)}
    found["versions"] = versions() | {name: version(name) for name in ("pyhessian", "curvlinops-for-pytorch", "scipy")}
    config.out.mkdir(parents=True, exist_ok=True)
    stem = config.out / ("curvature" if config.device == "cpu" else f"curvature-{config.device}")
    write_json(stem.with_suffix(".json"), found)
    draw(rows, stem)
    click.echo(table(found))
    return found


def _staged(config: Config, stages: dict[str, Callable[[dict[str, Any]], Any]]) -> dict[str, Any]:
    """The stages' results by name, each with the load of the machine at its end."""
    kept = config.runs / "stages.json"
    plain = json.loads(json.dumps(asdict(config), default=str))
    found = read_json(kept) if kept.exists() else {}
    if found.get("config") != plain:
        found = {"config": plain, "load": {}}
    with progress_bar(len(stages), unit="stage") as bar:
        for name, stage in stages.items():
            bar.set_description(name)
            if name not in found:
                found[name] = stage(found)
                found["load"][name] = os.getloadavg()
                write_json(kept, found)
            bar.update()
    return found


def _ask(question: str, setting: Setting, done: dict[str, Any]) -> list[dict[str, Any]]:
    return ask(question, setting, done["reference"])


def _machine(config: Config) -> dict[str, Any]:
    device = {"device": torch.cuda.get_device_name()} if config.device == "cuda" else {}
    return {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()} | device


def ask(question: str, setting: Setting, exact: dict[str, Any]) -> list[dict[str, Any]]:
    """One question to all packages in turns; a package that fails is asked no more."""
    gradients: list[float] = []
    runs: dict[str, list[tuple[float, Answer]]] = {name: [] for name in QUESTIONS[question]}
    failures: dict[str, str] = {}
    seconds(setting.gradient)
    for turn in range(setting.config.repeats):
        gradients += [seconds(setting.gradient) for _ in range(5)]
        for name, contender in QUESTIONS[question].items():
            if name not in failures:
                try:
                    runs[name].append(timed(partial(contender, setting, turn)))
                except Exception as failure:  # whatever a package cannot do on this torch
                    failures[name] = f"{type(failure).__name__}: {failure}".splitlines()[0]
    rows = []
    for name in runs:
        row: dict[str, Any] = {"question": question, "contender": name}
        answer: dict[str, Any] = (
            {"failure": failures[name]} if name in failures else _summary(question, runs[name], exact)
        )
        if "seconds" in answer:
            answer["gradient_times"] = answer["seconds"] / median(gradients)
        rows.append(row | answer)
    return rows


def _summary(question: str, runs: list[tuple[float, Answer]], exact: dict[str, Any]) -> dict[str, Any]:
    """Medians of seconds and products, the largest error."""
    errors = [error(question, answer.values, exact) for _, answer in runs]
    return {
        "seconds": median(spent for spent, _ in runs),
        "matvecs": median(answer.matvecs for _, answer in runs),
        "error": max(errors),
        "rms_error": (sum(one**2 for one in errors) / len(errors)) ** 0.5,
    }


def peaks(config: Config, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Megabytes over those of a process that only has the imports, the network and the data."""
    plain = asdict(config)
    idle = peak_megabytes(plain, "nothing")
    asked = [f"{row['question']}:{row['contender']}" for row in rows if "failure" not in row]
    return {"idle": idle} | {task: peak_megabytes(plain, task) - idle for task in MEMORY + asked}


def table(found: dict[str, Any]) -> str:
    """The results as text."""
    memory = found.get("megabytes", {})
    head = ["question", "package", "seconds", "gradients", "products", "error", "MB"]
    lines = [head]
    for row in found["answers"]:
        if "failure" in row:
            lines.append([row["question"], row["contender"], "fails", "", "", "", ""])
            continue
        peak = memory.get(f"{row['question']}:{row['contender']}")
        wrong = f"{row['error']:.0f} ghosts" if row["question"] == "density" else f"{row['error']:.1e}"
        numbers = [f"{row['seconds']:.2f}", f"{row['gradient_times']:.0f}", f"{row['matvecs']:.0f}", wrong]
        lines.append([row["question"], row["contender"], *numbers, "" if peak is None else f"{peak:.0f}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, *_remarks(found)])


def _remarks(found: dict[str, Any]) -> list[str]:
    remarks = [
        f"{found['parameters']} parameters; reference and ARPACK differ by "
        f"{found['reference']['difference_from_arpack']:.0e}"
    ]
    for name, times in found["product_seconds"].items():
        costs = ", ".join(f"{kind} {value / times['gradient']:.2f}" for kind, value in times.items())
        remarks.append(f"product on {name}, in gradients: {costs}")
    ratios = ", ".join(f"{kind} {value:.2f}" for kind, value in found["time_on_twice_the_data"].items())
    remarks.append(f"twice the data: {ratios} times the time")
    for row in found["lanczos"]:
        remarks.append(
            f"P = {row['parameters']}: Lanczos takes {100 * row['other_over_products']:.1f} % of the products' time"
        )
    for name, one in found["trace_to_one_percent"].items():
        remarks.append(
            f"trace of the {name} to 1 % rms: ours {one['ours']} products, Hutchinson {one['hutchinson']:.0f}"
        )
    return remarks


@click.command()
@click.option("--quick", is_flag=True, help="A tiny network, to see that all runs.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda")
@click.option("--threads", default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Config.out, show_default=True)
@click.option("--runs", type=click.Path(path_type=Path), default=Config.runs, show_default=True)
def command(quick: bool, **settings: Any) -> None:
    """Compare landscape, PyHessian and curvlinops."""
    main(replace(Config(**settings), **(QUICK if quick else {})), memory=not quick)


if __name__ == "__main__":
    command()
