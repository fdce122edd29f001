"""How far the correct class leads: margins of the outputs, for classification.

The margin of a sample is its output of the correct class minus the largest other one, negative where it is wrong.
Source: Jiang et al. 2020, arXiv:1912.02178 (the 10th percentile on the training data); Bartlett et al. 2017,
arXiv:1706.08498 (divided by the product of spectral norms).
"""

from math import exp

import torch
from torch import Tensor

from landscape.batches import shapes
from landscape.checks import require
from landscape.cost import FORWARD
from landscape.metrics.measured import measured
from landscape.metrics.norms import spectral_norms
from landscape.metrics.worst_case import exact
from landscape.problem import Problem
from landscape.results import Estimate


@measured(about=FORWARD)
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
    margins = _margins(problem)
    value = float(torch.quantile(margins, percentile / 100))
    if normalized:
        value /= exp(float(spectral_norms(problem, generator=generator).value) / 2)
    return exact(value, accuracy=float((margins > 0).double().mean()))


def _margins(problem: Problem) -> Tensor:
    """(n,), float64."""
    targets = [batch[1] for batch in problem.pairs()]
    outputs = problem.outputs().double().cpu()
    classes = all(isinstance(t, Tensor) and not t.is_floating_point() and t.ndim == 1 for t in targets)
    require(
        classes and outputs.ndim == 2 and outputs.shape[1] > 1,
        f"margins need outputs (n, C) and integer targets (n,), got {shapes(outputs)} and {shapes(targets[0])}",
    )
    labels = torch.cat(targets).cpu()[:, None]
    others = outputs.scatter(1, labels, float("-inf")).amax(1)
    return outputs.gather(1, labels)[:, 0] - others
