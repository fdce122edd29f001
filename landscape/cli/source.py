"""Where a network comes from: a run folder, a problem of the user's own, or weights with a network and data."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

import click
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from landscape.checks import require
from landscape.cli.weights_as_run import require_run
from landscape.models.by_name import built, network_maker
from landscape.problem import Problem
from landscape.problem.plugin import Splits, load_problem, named_function
from landscape.problem.split import LABELS, is_pair
from landscape.problem.units import OVER_ENTRIES
from landscape.storage.weights import load_weights
from landscape.study.network_record import load_run, splits
from landscape.training.trainer.device import curvature_device, move

PATH = click.Path(path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
LARGEST_SEED = 2**63 - 1
BATCH = 256  # samples, where --data gives a data set
OWN = "FILE.py:FUNCTION"
LOSSES = {function.__name__: function for function in OVER_ENTRIES.values()}
HUGGING_FACE = ("causal_lm", "sequence_classification")
OPTIONS = {
    "--problem": (OWN, f"In place of RUN: {OWN} or PACKAGE.MODULE:FUNCTION; gives a Problem, or (Problem, splits)."),
    "--weights": ("W", "In place of RUN: a .pt, .pth, .ckpt or .safetensors file, or a folder of Hugging Face's."),
    "--model": (OWN, "With --weights: gives the network that they are of."),
    "--data": (OWN, 'With --weights: gives a loader, a data set, one batch, or {"train": ..., "test": ...}.'),
    "--loss": ("LOSS", f"With --weights: {', '.join([*LOSSES, *HUGGING_FACE])}, or {OWN}."),
    "--device": (
        "DEVICE",
        "auto (cuda where there is one, else cpu; of --problem where it puts itself), cpu, cuda, cuda:N.",
    ),
}
DEFAULTS = {"--loss": "cross_entropy", "--device": "auto"}


@dataclass(frozen=True)
class Source:
    """What the user has named; nothing is read before `open`."""

    run: Path | None = None
    own: str | None = None
    weights: str | None = None
    model: str | None = None
    data: str | None = None
    loss: str = "cross_entropy"
    device: str = "auto"

    def __post_init__(self) -> None:
        given = [part is not None for part in (self.run, self.own, self.weights)]
        require(sum(given) == 1, "one of RUN, --problem and --weights is needed, got several or none")
        with_weights = (self.model is not None, self.data is not None)
        require(
            with_weights == (self.weights is not None,) * 2, "--weights, --model and --data belong together, got a part"
        )
        if self.run is not None:
            require_run(self.run)

    def __str__(self) -> str:
        return str(self.run or self.own or self.weights)

    @property
    def folder(self) -> Path:
        """Where results go by default: RUN, or here."""
        return self.run or Path()

    def open(self, samples: int | None = None) -> tuple[Problem, Splits]:
        """The problem, on its device, and its splits. `samples`: of RUN, the first so many training images."""
        require(samples is None or self.run is not None, "--samples belongs to RUN; elsewhere your own code chooses")
        place = curvature_device(self.device)
        if self.run is not None:
            problem, data = load_run(self.run, samples), splits(self.run)
        elif self.own is not None:
            problem, data = load_problem(self.own)
        else:
            problem, data = self._of_weights()
        if self.device != "auto" or self.own is None:
            move(problem, place)
        return problem, data

    def _of_weights(self) -> tuple[Problem, Splits]:
        weights, name, data_name = str(self.weights), str(self.model), str(self.data)
        model = load_weights(built(name, _called("--model", name, network_maker(name))), weights)
        data = _splits(data_name)
        first = data.get("train", next(iter(data.values())))
        if self.loss in HUGGING_FACE:
            from landscape.interop import huggingface_losses

            return getattr(huggingface_losses, f"{self.loss}_problem")(model, first), data
        return Problem(model, _criterion(self.loss), first), data


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """RUN, or --problem, or --weights with --model and --data; the command gets them as one `source`."""

    @wraps(command)
    def collected(**settings: Any) -> None:
        fields = {name: settings.pop(name) for name in Source.__dataclass_fields__}
        command(source=Source(**fields), **settings)

    found: Callable[..., None] = collected
    for name, (metavar, text) in reversed(OPTIONS.items()):
        named = (name, "own") if name == "--problem" else (name,)
        default = DEFAULTS.get(name)
        found = click.option(*named, default=default, show_default=True, metavar=metavar, help=text)(found)
    return click.argument("run", type=PATH, required=False)(found)


def _criterion(name: str) -> Callable[..., Tensor]:
    if name in LOSSES:
        return LOSSES[name]
    require(":" in name, f"--loss must be one of {', '.join([*LOSSES, *HUGGING_FACE])}, or {OWN}, got {name!r}")
    return named_function("--loss", name)


def _called(option: str, name: str, function: Callable[..., Any]) -> Any:
    """What the user's function gives. Raises ValueError if it asks for arguments."""
    try:
        signature(function).bind()
    except TypeError as error:
        raise ValueError(f"{option} {name} is called without arguments: {error}; give them defaults") from error
    except ValueError:  # it does not say what it takes
        pass
    return function()


def _splits(name: str) -> dict[str, Any]:
    """Split name to batches, of what the user's function gives."""
    made = _called("--data", name, named_function("--data", name))
    if isinstance(made, Mapping) and not any(label in made for label in LABELS):
        require(len(made) > 0, f"--data {name} must give at least one split, got none")
        return {str(split): _batched(part) for split, part in made.items()}
    if is_pair(made) and all(isinstance(part, DataLoader | Dataset) for part in made):
        return dict(zip(("train", "test"), map(_batched, made), strict=True))
    return {"train": _batched(made)}


def _batched(data: Any) -> Iterable[Any]:
    """A data set in batches; all else as it is."""
    whole = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    return DataLoader(data, batch_size=BATCH) if whole else data
