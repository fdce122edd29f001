"""What the callbacks for Lightning and Hugging Face share: a `Tracker` on a fixed part of the training data."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from landscape.checks import integer_in, require
from landscape.curvature.preconditioned import stability_threshold
from landscape.problem import Problem
from landscape.side_effects import random_state_kept
from landscape.training.tracker import Measurement, Tracker
from landscape.training.writers import tagged

BATCH_SIZE = 32  # where the loader's own is not known


class TrainingCallback:
    """A `Tracker` in somebody else's loop: made at once, given its problem when the training begins.

    Args:
        problem: the model to its `Problem`, called once; default the training loss on `samples` of the training data.
        every: optimiser steps between measurements.
        samples: so many are drawn once, and stay the same ones.
        rho: radius of the surrogate gap; 0 leaves it out.
        trace_matvecs: products for tr H; 0 leaves it out.
        settings: others of the `Tracker`: matvecs, which, log, writer, ...
    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        problem: Callable[[Any], Problem] | None = None,
        *,
        every: int = 100,
        samples: int = 256,
        rho: float = 0.05,
        trace_matvecs: int = 12,
        **settings: Any,
    ) -> None:
        super().__init__()
        integer_in("samples", samples, 1)
        self.make_problem, self.samples = problem, samples
        self._problem: Problem | None = None
        self.tracker = Tracker(self._present, every=every, rho=rho, trace_matvecs=trace_matvecs, **settings)

    @property
    def rows(self) -> list[Measurement]:
        """The series so far, also over a resumed training."""
        return self.tracker.rows

    def _present(self) -> Problem:
        assert self._problem is not None
        return self._problem

    def _begin(self, model: nn.Module, own: Callable[[], Problem], optimizer: Any, step: int) -> None:
        """At `step`, with the problem that `own` gives where the user gave none."""
        self._problem = self.make_problem(model) if self.make_problem else own()
        self.tracker.optimizer = _known(getattr(optimizer, "optimizer", optimizer), self._problem)
        self.tracker.steps = step

    def _measured(self, step: int) -> dict[str, Any] | None:
        """What to log after this step; None if a measurement is not due. A failed one is told, the training goes on."""
        due = step // self.tracker.every > self.tracker.steps // self.tracker.every
        self.tracker.steps = step
        if not due:
            return None
        try:
            return tagged(vars(self.tracker.measure()))
        except ValueError as error:  # such as a loss that is NaN
            warnings.warn(f"curvature after step {step} was not measured: {error}", stacklevel=2)
            return None


def fixed_part(loader: Any, samples: int) -> list[tuple[Any, int]]:
    """Batches of `samples` of the loader's data, drawn with seed 0, with how many each holds; no random state changes.

    Raises:
        ValueError: if the data cannot be read by index.
    """
    dataset: Any = getattr(loader, "dataset", None)
    known = isinstance(loader, DataLoader) and not isinstance(dataset, IterableDataset)
    require(
        known and hasattr(dataset, "__len__"),
        f"the training data must be a DataLoader over a data set with a length, got {type(loader).__name__} over "
        f"{type(dataset).__name__}; pass problem=, the model to a Problem on data that are fixed",
    )
    drawn = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:samples].tolist()
    size = (
        loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or BATCH_SIZE
    )  # accelerate has the second
    parts = [drawn[at : at + size] for at in range(0, len(drawn), size)]
    with random_state_kept():  # of augmentation, or masks that the collator draws
        return [(loader.collate_fn([dataset[i] for i in part]), len(part)) for part in parts]


def _known(optimizer: Any, problem: Problem) -> Any:
    """The optimiser, or None, with a warning, where λmax(P⁻¹H) is not known for it."""
    if optimizer is None:
        return None
    try:
        stability_threshold(optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        named = dict(problem.model.named_parameters())
        lacking = next((name for name in problem.layout.names if id(named[name]) not in held), None)
        require(lacking is None, f"optimizer does not hold {lacking}")
    except ValueError as error:
        warnings.warn(f"curvature is measured without λmax(P⁻¹H) and its threshold: {error}", stacklevel=2)
        return None
    return optimizer
