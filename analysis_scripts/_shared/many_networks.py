"""Train many networks side by side and measure each: what is finished is kept, so that a killed script goes on.

A network that diverges is no error here: it is kept as {"failed": message}.
"""

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import landscape as ls
from landscape.checks import require
from landscape.data import Images, load
from landscape.processes import pool
from landscape.processes.progress import progress_bar
from landscape.storage.results import read_json, write_json
from landscape.storage.settings import differing
from landscape.training.trainer.run_folder import CONFIG

K = TypeVar("K", bound=Hashable)
Measure = Callable[[Path], dict[str, Any]]
KEPT = "measured.json"
OF_TRAINING = ("model_settings", "label_noise", "lr", "epochs", "batch_size")  # what a script's config may name
SETTING: dict[str, Any] = {  # of the comparisons of rules
    "model": "mlp",  # 0.7 s a training; with normalisation, for SAM-ON
    "model_settings": {"hidden": [64, 64], "norm": "batch"},
    "epochs": 30,
}


def training(config: Any, name: str, rule: str, seed: int, **changes: Any) -> ls.TrainConfig:
    """A rule's run NAME below `config.runs` with what the script's config names of it, and what `changes` has."""
    own: dict[str, Any] = {key: getattr(config, key) for key in OF_TRAINING if hasattr(config, key)}
    own |= getattr(config, "setting", {})
    return ls.TrainConfig(f"{config.runs}/{name}", optimizer=rule, seed=seed, progress=False, **own | changes)


def measured(
    networks: Mapping[K, ls.TrainConfig], measure: Measure, workers: int | Executor = 2, *, progress: bool | None = None
) -> dict[K, dict[str, Any]]:
    """Train every network and measure it.

    Args:
        networks: name to training run.
        measure: run folder to numbers that JSON can hold; a function of a module, or a `partial` of one with keywords.
            What it gave is not computed again, unless the function has another name, or the keywords are others.
        workers: processes, of one thread each; 1 is this process. Or an executor of `concurrent.futures`.
        progress: show a bar; None shows it on a terminal only.
    Returns:
        Name to what `measure` gave, in the order of the networks.
    Raises:
        ValueError: if a run folder holds another run, or `measure` has settings without a keyword; RuntimeError where
            a worker says so, or is killed.
    """
    with measuring(measure, workers, progress=progress) as found:
        return found(networks)


@contextmanager
def measuring(
    measure: Measure, workers: int | Executor = 2, *, progress: bool | None = None
) -> Iterator[Callable[[Mapping[K, ls.TrainConfig]], dict[K, dict[str, Any]]]]:
    """`measured` as often as one likes, by the same workers: to begin takes one as long as ten small trainings."""
    require(not getattr(measure, "args", ()), "measure must have its settings as keywords, got a partial without")
    with pool(partial(_one, measure), workers, threads=1, unit="network") as results:

        def found(networks: Mapping[K, ls.TrainConfig]) -> dict[K, dict[str, Any]]:
            left = [_Network(name, network) for name, network in networks.items() if not _done(network, measure)]
            done = len(networks) - len(left)
            with progress_bar(len(networks), initial=done, unit="network", progress=progress if left else False) as bar:
                for _ in results(left):
                    bar.update()
            return {name: read_json(Path(network.folder) / KEPT)["found"] for name, network in networks.items()}

        yield found


def none_failed(found: Mapping[K, dict[str, Any]]) -> Mapping[K, dict[str, Any]]:
    """What `measured` gave, for scripts that need every network. Raises ValueError naming the first that diverged."""
    for name, own in found.items():
        require("failed" not in own, f"{name}: {own.get('failed')}")
    return found


def data_of(config: Mapping[str, Any]) -> Images:
    """What a network was trained and tested on, from the config in its metadata."""
    data = load(config["dataset"], config["data_path"], label_noise=config["label_noise"], seed=config["seed"])
    assert isinstance(data, Images)  # no script reads lazily
    return data


def slug(name: str) -> str:
    """A name as part of a folder's."""
    return re.sub(r"\W+", "-", name.replace("∞", "inf").replace("ρ", "rho")).strip("-").lower()


def _done(network: ls.TrainConfig, measure: Measure) -> bool:
    """Whether what is kept is of this run, whose folder's name alone says nothing, and of this measurement."""
    folder = Path(network.folder)
    if not (folder / KEPT).exists() or differing(read_json(folder / CONFIG), network.settings()):
        return False
    kept = read_json(folder / KEPT)
    return kept.get("by", _name(measure)) == _name(measure) and not differing(kept["asked"], _asked(measure))


def _name(measure: Measure) -> str:
    return str(getattr(getattr(measure, "func", measure), "__qualname__", ""))  # whichever module runs it


def _asked(measure: Measure) -> dict[str, Any]:
    return getattr(measure, "keywords", {})


class _Network(NamedTuple):
    """A piece of work, which is called by its name where it fails."""

    name: Any
    training: ls.TrainConfig

    def __str__(self) -> str:
        return str(self.name)


def _one(measure: Measure, network: _Network) -> None:
    training = network.training
    try:
        found = measure(ls.train(training))
    except ValueError as error:
        if "the loss is" not in str(error):
            raise
        found = {"failed": str(error)}
    write_json(Path(training.folder) / KEPT, {"by": _name(measure), "asked": _asked(measure), "found": found})
