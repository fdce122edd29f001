"""All rules and objectives on digits with wrong labels, at the same budget in gradients and in epochs.

Test error with a 95 % interval over seeds, generalisation gap, λmax of the final network, share of wrong labels fitted,
time a step. Learning rate, weight decay and radius of every row are tuned at each budget by the same random search. The
budget in gradients is two for each step of the budget in epochs: SGD trains twice as long there, SAM as long, a rule of
four gradients half as long.

Networks are trained into runs/ and kept; csv, json, markdown and figure go to figures/rule_table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.described import described
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import SETTING, data_of, measured
from analysis_scripts._shared.over_seeds import difference, interval
from analysis_scripts._shared.random_search import Search, Tuned
from analysis_scripts._shared.variants import STEPS, VARIANTS, network, tune_at
from analysis_scripts.training.rule_figure import draw
from analysis_scripts.training.rule_report import claims, markdown, sentence, write_csv
from landscape.storage.results import read_json, write_json
from landscape.training import read_log

Found = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the table follows from it."""

    variants: tuple[str, ...] = tuple(VARIANTS)  # the first is what the others are compared with
    setting: dict[str, Any] = field(default_factory=lambda: {**SETTING, "label_noise": 0.4})
    seeds: tuple[int, ...] = tuple(range(10))
    search: Search = field(default_factory=Search)
    samples: int = 300  # training images of λmax, the first ones
    timed_epochs: int = 10  # of which the second half counts
    workers: int = 2
    folder: str = "figures/rule_table"
    runs: str = "runs/rule_table"
    tuning: str = "runs/tuning"


def main(config: Config) -> list[Found]:
    """Tune, train, time, and write the table."""
    folder, runs = Path(config.folder), Path(config.runs)
    tuned: dict[tuple[str, int], Tuned] = {}
    for budget in ("gradients", "epochs"):
        lengths = {name: budgets(config, name)[budget] for name in config.variants}
        found = tune_at(config, {name: VARIANTS[name] for name in config.variants}, lengths)
        tuned |= {(name, lengths[name]): own for name, own in found.items()}
    networks = {  # where both budgets are the same, one run serves both
        (name, epochs, seed): network(config, f"{name}-{epochs}-{seed}", VARIANTS[name], own.point, seed, epochs=epochs)
        for (name, epochs), own in tuned.items()
        for seed in config.seeds
    }
    runs_of = measured(networks, partial(measure, samples=config.samples), config.workers)
    times = step_times(config, tuned, runs / "times.json")
    table = [row(config, name, tuned, times[name], runs_of) for name in config.variants]
    table.sort(key=lambda own: own["gradients"]["error"][0])
    said = sentence(table, config.variants[0])
    drawn = partial(draw, table, config.variants[0])
    publish(config, "rule_table", {"sentence": said, "rows": table}, drawn, claims=claims(table))
    write_csv(folder / "rule_table.csv", table)
    (folder / "rule_table.md").write_text(markdown(table, f"{described(config)} {said}"))
    return table


def budgets(config: Config, name: str) -> dict[str, int]:
    """Epochs that a variant trains at either budget."""
    epochs = config.setting["epochs"]
    return {"gradients": VARIANTS[name].epochs(2 * epochs), "epochs": epochs}


def measure(folder: Path, samples: int) -> Found:
    """Error and gap of the final network, the best epoch's error, λmax, and the share of wrong labels given back."""
    model, metadata = ls.load_checkpoint(folder)
    data = data_of(metadata["config"])
    problem = ls.Problem(model, F.cross_entropy, (data.train_inputs[:samples], data.train_targets[:samples]))
    pairs = ls.top_eigenpairs(ls.hessian(problem), 1, which="LA", tol=1e-2)
    given = model(data.train_inputs[data.flipped]).argmax(1)
    return {
        "error": 1 - metadata["test_accuracy"],
        "best": 1 - max(line["test_accuracy"] for line in read_log(folder)),
        "gap": metadata["test_loss"] - metadata["train_loss"],
        "lambda_max": float(pairs.values[0]),
        "residual": float(pairs.residuals[0]),
        "fitted": float((given == data.train_targets[data.flipped]).float().mean()),
    }


def step_times(
    config: Config, tuned: Mapping[tuple[str, int], Tuned], kept: Path, repeats: int = 3
) -> dict[str, float]:
    """Milliseconds a step of each variant: the quickest of three short trainings, in turns, over their second half.

    So what happens every few epochs is in it, and so is an epoch's pass over the test set, a tenth a step.
    """
    if kept.exists():
        return read_json(kept)
    times: dict[str, list[float]] = {name: [] for name in config.variants}
    for _, name in product(range(repeats), config.variants):
        settings = {**config.setting, **VARIANTS[name].training(tuned[name, config.setting["epochs"]].point, STEPS)}
        settings["epochs"] = config.timed_epochs
        with TemporaryDirectory() as folder:
            ls.train(ls.TrainConfig(**settings, folder=folder, progress=False))
            late = read_log(folder)[config.timed_epochs // 2 :]
        times[name].append(1000 * mean(line["seconds"] for line in late) / STEPS)
    quickest = {name: min(own) for name, own in times.items()}
    write_json(kept, quickest)
    return quickest


def row(
    config: Config,
    name: str,
    tuned: Mapping[tuple[str, int], Tuned],
    milliseconds: float,
    found: Mapping[tuple[str, int, int], Found],
) -> Found:
    """A line of the table: what was trained, and what came out at either budget."""
    own, base = VARIANTS[name], config.variants[0]
    result: Found = {"name": name, "optimizer": own.optimizer, "objective": own.objective}
    result |= {"passes": own.passes, "ms_a_step": milliseconds}
    result["lr"] = tuned[name, config.setting["epochs"]].point["lr"]  # the rest, and at equal gradients, stands below
    for budget, epochs in budgets(config, name).items():
        runs = [found[name, epochs, seed] for seed in config.seeds]
        others = [found[base, budgets(config, base)[budget], seed] for seed in config.seeds]
        whole = [(run, other) for run, other in zip(runs, others, strict=True) if "failed" not in run | other]
        errors, tops = ([run[key] for run, _ in whole] for key in ("error", "lambda_max"))
        base_errors = [other["error"] for _, other in whole]
        best = tuned[name, epochs]
        result[budget] = {
            "epochs": epochs,
            "tuned": best.point,
            "validation_error": best.error,
            "points": best.points,
            "edges": best.edges,
            "diverged": len(runs) - len(whole),
            "errors": errors,
            "error": interval(errors),
            "minus_first": difference(errors, base_errors),
            "minus_first_for_all": difference(errors, base_errors, 0.05 / max(len(config.variants) - 1, 1)),
            "gap": interval([run["gap"] for run, _ in whole]),
            "lambda_max": [median(tops), min(tops), max(tops)],
            "best": mean(run["best"] for run, _ in whole),
            "fitted": mean(run["fitted"] for run, _ in whole),
        }
    return result


if __name__ == "__main__":
    command(main, Config)
