"""Diagnostics of a bundled training: the `Tracker` on the first training images, and the rule's own e of each step.

A row has λmax with its residual, |ĝ·v₁|, the surrogate gap h at rho, 2h/rho², 2(h − rho|g|)/rho², cos(g, g'), |ê·v₁|,
|g| and |w|: of the criterion that is trained on, labels smoothed, images not augmented and without what an objective
adds, with stored batch-norm statistics. e is that of the step just made, at the weights before it and on its batch;
under m-sharpness, where a step has several, there is none. The weights of the run are the same, bit for bit, with and
without. Cost of a row: two gradients and eight Hessian products, some 20 gradient-times on
`diagnostics_samples` images (19 to 24 on two networks for digits); the first row may take 60 products, 130 of them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from landscape.data import Images, Lazy
from landscape.problem import Problem
from landscape.training.rules import Rule, State
from landscape.training.tracker import Tracker
from landscape.training.trainer.config import TrainConfig
from landscape.vectors import Vector


class LastPerturbation:
    """Remembers the e that a rule gave last; None where it gave none."""

    def __init__(self) -> None:
        self.e: Vector | None = None

    def __call__(self) -> Vector | None:
        return self.e

    def of(self, rule: Rule) -> Rule:
        """A copy of the rule that leaves its e here."""

        def perturb(*arguments: Any) -> tuple[Vector | None, State]:
            self.e, state = rule.perturb(*arguments)
            return self.e, state

        return replace(rule, perturb=perturb, out=False)


def make_tracker(
    config: TrainConfig, model: nn.Module, data: Images | Lazy, last: LastPerturbation, log: Path
) -> Tracker:
    """The tracker of a run, with its rows in `log`."""
    images, labels = (part.split(config.batch_size) for part in data.first(config.diagnostics_samples))
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    problem = Problem(model, criterion, list(zip(images, labels, strict=True)))
    e = None if config.m_sharpness else last
    return Tracker(problem, every=config.diagnostics_every, rho=config.diagnostics_rho, perturbation=e, log=log)
