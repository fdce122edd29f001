"""The PAC-Bayes bound that motivated SAM.

Source: Foret et al. 2021, arXiv:2010.01412, Theorem 2 in Appendix A.
"""

from math import log, log1p, sqrt

import torch

from landscape.checks import integer_in, positive, require
from landscape.metrics.ascent import STEPS
from landscape.metrics.metric import Origin, measured
from landscape.metrics.worst_case import worst_case_gap as gap_within
from landscape.problem import Problem
from landscape.storage.results import Estimate


@measured
def pac_bayes_sam(
    problem: Problem,
    *,
    rho: float = 0.05,
    n: int | None = None,
    delta: float = 0.05,
    steps: int = STEPS,
    origin: Origin | None = None,
    worst_case_gap: Estimate | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Worst-case loss in the ball of radius rho plus the complexity of Theorem 2.

    complexity = sqrt((k log(1 + |w|²/rho² (1 + sqrt(log n / k))²) + 4 log(n/delta) + 8 log(6n + 3k)) / (n − 1)), k = P.
    The theorem bounds losses in [0, 1]; with k far above n, as in real networks, the bound is vacuous: it says nothing
    about the test loss and serves only to compare networks by |w|/rho and the worst case.

    Args:
        problem: the scalar function.
        rho: radius, positive.
        n: samples; default the units in the data.
        delta: probability that the bound fails, in (0, 1).
        steps: of the ascent, as in `worst_case_gap`.
        origin: loss and gradient at w, if known already.
        worst_case_gap: the metric of that name at these settings, if known already.
        generator: as in `worst_case_gap`.
    Returns:
        Estimate with stderr 0; details: worst_case_loss, complexity, tighter_complexity (the proof's last line but
        one), vacuous (1 where the complexity alone is at least 1), and those of the ascent.
    Raises:
        ValueError: if an argument is out of range.
    """
    positive("rho", rho)
    require(0 < delta < 1, f"delta must be in (0, 1), got {delta!r}")
    n = round(sum(units for _, _, units in problem.batches_with_units())) if n is None else n
    integer_in("n", n, 2)
    loss, g = origin or problem.loss_and_gradient()
    gap = worst_case_gap or gap_within(problem, rho=rho, steps=steps, origin=(loss, g), generator=generator)
    k, worst = problem.size, float(loss) + float(gap.value)
    norms = k * log1p(float(problem.vector().double().square().sum()) / rho**2 * (1 + sqrt(log(n) / k)) ** 2)
    complexity = sqrt((norms + 4 * log(n / delta) + 8 * log(6 * n + 3 * k)) / (n - 1))
    tighter = 1 / sqrt(n) + sqrt((norms / 4 + log(n / delta) + 2 * log(6 * n + 3 * k)) / (n - 1))
    return Estimate.exact(
        worst + complexity,
        0,
        worst_case_loss=worst,
        complexity=complexity,
        tighter_complexity=tighter,
        vacuous=float(complexity >= 1),
        **{key: gap.details[key] for key in ("steps", "last_gain", "converged") if key in gap.details},
    )
