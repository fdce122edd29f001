"""How far the correct class leads: margins of the outputs, for classification.

The margin of a sample is its output of the correct class minus the largest other one, negative where it is wrong.
Source: Jiang et al. 2020, arXiv:1912.02178 (the 10th percentile on the training data); Bartlett et al. 2017,
arXiv:1706.08498 (divided by the product of spectral norms).
"""

from math import exp
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.metrics.metric import measured
from landscape.metrics.norms import spectral_norms
from landscape.problem import Problem
from landscape.problem.batch import Batch
from landscape.problem.batches import shapes
from landscape.problem.class_targets import ClassTargets
from landscape.storage.results import Estimate


@measured
def margin(
    problem: Problem,
    *,
    percentile: float = 10.0,
    normalized: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:
    """A low percentile of the margins.

    Args:
        problem: the scalar function, of classes: outputs (n, C), integer targets (n,).
        percentile: in [0, 100]; the minimum would hang on a single sample.
        normalized: divide by the product of the layers' spectral norms.
        generator: for the spectral norms; default seed 0.
    Returns:
        Estimate with stderr 0, in units of the outputs; details: accuracy.
    Raises:
        ValueError: if the problem is no classification, or percentile is out of range.
    """
    require(0 <= percentile <= 100, f"percentile must be in [0, 100], got {percentile!r}")
    found = margins(problem)
    value = float(torch.quantile(found, percentile / 100))
    if normalized:
        value /= exp(float(spectral_norms(problem, generator=generator).value) / 2)
    return Estimate.exact(value, accuracy=float((found > 0).double().mean()))


def margins(problem: Problem, w: Tensor | None = None) -> Tensor:
    """Of the targets that count, at w, (n,), float64."""
    problem.require_alone("margins")
    known, batches = ClassTargets(problem.criterion), list[tuple[Any, Any]]()

    def collect(batch: Batch) -> Tensor:
        outputs = batch.evaluate(batch.w)[1]
        known.look(outputs, batch.targets)
        batches.append((outputs, batch.targets))
        return batch.w.new_zeros(())

    with torch.no_grad():
        problem.mean(collect, w)
    return torch.cat([_of(known, *batch) for batch in batches])


def _of(known: ClassTargets, outputs: Any, targets: Any) -> Tensor:
    """Of one batch."""
    require(
        known.fits(outputs, targets),
        f"margins need outputs (n, C) and integer targets (n,), or an axis of classes more than targets, got "
        f"{shapes(outputs)} and {shapes(targets)}; {known.reason}",
    )
    assert known.axis is not None
    counted = known.counted(targets)
    logits, labels = outputs.movedim(known.axis, -1)[counted].double().cpu(), targets[counted].cpu()
    require(
        not bool(((labels < 0) | (labels >= logits.shape[1])).any()),
        f"margins need targets from 0 to {logits.shape[1] - 1}, got {labels.min()} to {labels.max()}, which the "
        "criterion is not known to ignore",
    )
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], float("-inf")).amax(1)
