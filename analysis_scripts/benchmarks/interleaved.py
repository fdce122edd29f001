"""The numbers that the package is held to, in one run: what is compared takes turns, medians of the rounds' ratios.

    python analysis_scripts/benchmarks/interleaved.py [--only grid,cnn] [--threads 2] [--before CHECKOUT] [--gpt2]

With `--before` another checkout of the project is measured in turns with this one, in a process beside it. Writes the
JSON anew after each number; the table comes last.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from contenders import Answer
from gpt2 import comparison
from measure import seconds, timed
from sections import SECTIONS, Section
from setting import Config

from landscape.storage.results import versions, write_json

QUICK: dict[str, Any] = {"width": 2, "epochs": 1, "images": 60, "batch_size": 60, "k": 2}
SLOWER = 1.03  # than before, at most
Remote = Callable[..., float]  # section, call and threads to the seconds that they take there


def main(
    out: Path,
    config: Config,
    *,
    only: tuple[str, ...] = tuple(SECTIONS),
    threads: tuple[int, ...] = (2,),
    before: Path | None = None,
    gpt2: bool = False,
    repeats: int | None = None,
) -> dict[str, Any]:
    """Measure, write JSON, print the table; returns what the JSON holds."""
    found: dict[str, Any] = {"before": before.name if before else None}
    found |= {"cores": os.cpu_count(), "load": os.getloadavg(), "versions": versions(), "rows": []}

    def note(row: dict[str, Any]) -> None:
        found["rows"].append(row)
        click.echo(line(row), err=True)
        write_json(out, found)

    with _other(before, config) if before else nullcontext() as remote:
        for name in only:
            for count in threads:
                torch.set_num_threads(count)
                section = SECTIONS[name](config)
                for row in rows(name, section, count, remote, repeats or section.repeats):
                    note(row)
    if gpt2:
        for row in comparison(threads[0], before):
            note(row)
    click.echo(table(found))
    return found


def rows(name: str, section: Section, threads: int, remote: Remote | None, repeats: int) -> list[dict[str, Any]]:
    """The section's numbers, those of the other version beside them."""
    ask = partial(remote, name, threads=threads) if remote else None
    rounds, answers, failures = turns(section, ask, repeats)
    counted = {key: _about(answer, section) for key, answer in answers.items() if isinstance(answer, Answer)}
    found = []
    for title, number in section.numbers.items():
        row: dict[str, Any] = {"section": name, "number": title, "unit": number.unit, "bound": number.bound}
        row |= {"threads": threads, "answers": counted}
        try:
            row["rounds"] = [number.value(one) for one in rounds]
            row["value"] = median(row["rounds"])
            row["seconds"] = {key: median(one[key] for one in rounds) for key in rounds[0]}
            if ask:
                row["before"] = median(number.value(one | _earlier(one)) for one in rounds)
                row["now_over_before"] = median(one[number.call] / one[f"before: {number.call}"] for one in rounds)
        except KeyError as missing:
            row["failure"] = failures[missing.args[0]]
        found.append(row)
    return found


def turns(
    section: Section, ask: Callable[[str], float] | None, repeats: int
) -> tuple[list[dict[str, float]], dict[str, Any], dict[str, str]]:
    """Seconds of all calls, round by round; the last answers; what failed, and why."""
    rounds, answers, failures = [], {}, {}
    for turn in range(repeats + 1):
        spent: dict[str, float] = {}
        for key, call in (section.ours | section.others).items():
            if key in failures:
                continue
            try:
                spent[key], answers[key] = timed(call)
            except ImportError as missing:
                failures[key] = f"not installed: {missing.name}"
            except Exception as failure:  # what a package cannot do is its row, not the end of the run
                failures[key] = f"{type(failure).__name__}: {failure}".splitlines()[0]
            if ask and key in section.ours:
                spent[f"before: {key}"] = ask(key)
        if turn:  # the first warms up
            rounds.append(spent)
    return rounds, answers, failures


def line(row: Mapping[str, Any]) -> str:
    """A number as text."""
    head = f"{row['section']:10} {row['number']:30} {row['threads']} thr."
    if "failure" in row:
        return f"{head} {row['failure']}"
    bound, text = row["bound"], f"{head} {row['value']:9.3f} {row['unit']}"
    if bound is not None:
        kept = row["value"] >= -bound if bound < 0 else row["value"] <= bound
        text += f" ({'>=' if bound < 0 else '<='} {abs(bound):g}{'' if kept else ', MISSED'})"
    if "now_over_before" in row:
        ratio = row["now_over_before"]
        text += f"; before {row['before']:.3f}, time {ratio:.3f} of before{' SLOWER' if ratio > SLOWER else ''}"
    return text


def table(found: Mapping[str, Any]) -> str:
    """The results as text: the numbers, then products and errors of the answers."""
    lines = [line(row) for row in found["rows"]]
    for name, threads in dict.fromkeys((row["section"], row["threads"]) for row in found["rows"]):
        first = next(row for row in found["rows"] if (row["section"], row["threads"]) == (name, threads))
        for key, answer in first.get("answers", {}).items():
            wrong = f", relative error {answer['error']:.1e}" if "error" in answer else ""
            lines.append(f"{name:10} {key}: {answer['products']} products{wrong}")
    return "\n".join(lines)


def _earlier(spent: Mapping[str, float]) -> dict[str, float]:
    """The other version's seconds under the names of ours."""
    return {key.removeprefix("before: "): value for key, value in spent.items() if key.startswith("before: ")}


def _about(answer: Answer, section: Section) -> dict[str, Any]:
    """Products, and the largest relative error where the eigenvalues are known."""
    about: dict[str, Any] = {"products": answer.matvecs}
    if section.exact and answer.values:
        exact = section.exact()
        about["error"] = max(abs(a - b) / abs(b) for a, b in zip(answer.values, exact, strict=True))
    return about


@contextmanager
def _other(checkout: Path, config: Config) -> Iterator[Remote]:
    """The same calls in another checkout, in a process of its own that answers when it is asked."""
    own = replace(config, runs=config.runs.with_name(config.runs.name + "-before"))
    settings = {key: getattr(own, key) for key in QUICK} | {"runs": str(own.runs)}
    command = [sys.executable, __file__, "--serve", json.dumps(settings)]
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        asked, answered = process.stdin, process.stdout
        assert asked is not None
        assert answered is not None

        def ask(section: str, call: str, threads: int) -> float:
            asked.write(json.dumps([section, call, threads]) + "\n")
            asked.flush()
            answer = answered.readline()
            if not answer:
                raise RuntimeError(f"{checkout} failed at {section}, {call}")
            return float(answer)

        try:
            yield ask
        finally:
            asked.close()


def serve(settings: dict[str, Any]) -> None:
    """Answer questions from standard input with seconds."""
    config = Config(**settings | {"runs": Path(settings["runs"])})
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing but answers goes there
    made: dict[tuple[str, int], Section] = {}
    for question in sys.stdin:
        name, call, threads = json.loads(question)
        torch.set_num_threads(threads)
        if (name, threads) not in made:
            made.clear()
            made[name, threads] = SECTIONS[name](config)
        click.echo(seconds(made[name, threads].ours[call]), file=answers)


@click.command()
@click.option("--only", default=",".join(SECTIONS), show_default=True, help="Sections, with commas.")
@click.option("--threads", default="2", show_default=True, help="Numbers of threads, with commas.")
@click.option("--before", type=click.Path(path_type=Path, exists=True), default=None, help="Another checkout.")
@click.option("--gpt2", is_flag=True, help="Memory and time of GPT-2 too, in processes of their own.")
@click.option("--quick", is_flag=True, help="A tiny network, to see that all runs.")
@click.option("--out", type=click.Path(path_type=Path), default=Config.out / "interleaved.json", show_default=True)
@click.option("--serve", "served", default=None, hidden=True)
def command(
    only: str, threads: str, before: Path | None, gpt2: bool, quick: bool, out: Path, served: str | None
) -> None:
    """Measure what the package is held to."""
    if served:
        serve(json.loads(served))
        return
    names = tuple(name for name in only.split(",") if name)
    for name in names:
        if name not in SECTIONS:
            raise click.BadParameter(f"must be some of {', '.join(SECTIONS)}, got {name!r}", param_hint="--only")
    counts = tuple(int(count) for count in threads.split(","))
    out.parent.mkdir(parents=True, exist_ok=True)
    config = replace(Config(), **QUICK) if quick else Config()
    main(out, config, only=names, threads=counts, before=before, gpt2=gpt2, repeats=1 if quick else None)


if __name__ == "__main__":
    command()
