"""What the papers claim of sharpness and the generalisation gap, beside what a study found.

Where the training loss is held decides: by training (Kendall's tau), or else by a correlation given it.
"""

from math import inf, isfinite, nan

from analysis_scripts._shared.claims import Claim, said
from analysis_scripts._shared.over_seeds import lies_in, verdict
from landscape.plots.style import words
from landscape.report.evidence import TRAIN_LOSS, Evidence
from landscape.study import Correlation
from landscape.study.statistics.comparison import difference

BALLS = ("worst_case_gap", "average_gap", "m_sharpness")
STRONG, WEAK = 0.5, 0.2  # |tau|: our reading of "strongly", and of the published -.05 as "hardly"


def claims(evidence: Evidence) -> list[Claim]:
    """A claim for each paper whose measures the study has."""
    correlations = evidence.correlations
    found = [_balls(evidence), _robust(evidence)]
    if not evidence.held:
        found.append(_training_loss(evidence))
    if "renyi" in correlations:
        found.append(_renyi(correlations["renyi"], _on(evidence)))
    if "trace" in correlations:
        found.append(_trace(correlations["trace"], _on(evidence)))
    if {"geodesic", "worst_case_gap_adaptive"} <= correlations.keys():
        found.append(_geodesic(evidence))
    return found


def _on(evidence: Evidence) -> str:
    how = f"stopped at training loss {evidence.held:g}" if evidence.held else "trained for equal epochs"
    return f"{len(evidence.rows)} networks {how}"


def _balls(evidence: Evidence) -> Claim:
    """Most of them, so that one measure of ten decides nothing."""
    own = [found for name, found in evidence.correlations.items() if name.startswith(BALLS)]
    ways = [evidence.follows(found) for found in own]
    rising, falling = ways.count(1), ways.count(-1)
    judged = "agrees" if 2 * rising > len(own) else "differs" if 2 * falling > len(own) else "cannot say"
    how = "" if evidence.held else " given the training loss"
    return Claim(
        "Jiang et al. 2020",
        "sharpness in a ball rises with the gap",
        f"{rising} of {len(own)} such measures rise{how} beyond doubt, {falling} fall; {_on(evidence)}",
        judged,
    )


def _robust(evidence: Evidence) -> Claim:
    """Along every setting that was varied, the sign that the mean has."""
    worst = {}
    for name, found in evidence.correlations.items():
        psi = {axis: value for axis, value in found.psi.items() if isfinite(value) and axis in evidence.cluster}
        if psi and name != TRAIN_LOSS:
            sign = 1 if found.psi_mean > 0 else -1
            axis = min(psi, key=lambda axis: sign * psi[axis])
            worst[name] = (sign * psi[axis], axis)
    kept = [name for name, (value, _) in worst.items() if value > 0]
    best = max(worst, key=lambda name: worst[name][0], default="")
    value, axis = worst.get(best, (float("nan"), ""))
    judged = "agrees" if value <= 0 else "cannot say"  # psi has no interval, which "differs" would ask for
    return Claim(
        "Dziugaite et al. 2020",
        "no measure is robust: each fails in some environment",
        f"{len(kept)} of {len(worst)} measures order the gap with one sign along every setting; the best, "
        f"{words(best)}, has psi {value:+.2f} along {words(axis)}, where it is weakest; {_on(evidence)}",
        judged,
    )


def _training_loss(evidence: Evidence) -> Claim:
    """Why the paper trains all its networks to one cross entropy."""
    own = evidence.correlations[TRAIN_LOSS]
    stronger = sum(abs(found.tau) > abs(own.tau) for found in evidence.correlations.values())
    return Claim(
        "Jiang et al. 2020",
        "networks are to be compared at one training loss: else it orders the gap by itself",
        f"tau of the training loss {said((own.tau, own.low, own.high))}, which {stronger} of "
        f"{len(evidence.correlations) - 1} measures exceed; {_on(evidence)}",
        _beyond(own, WEAK),
    )


def _renyi(found: Correlation, on: str) -> Claim:
    return Claim(
        "Rényi sharpness, abstract",
        "it correlates strongly with the gap (tau .77, best layer of a ResNet-18 on CIFAR-10, unconfirmed)",
        f"tau {said((found.tau, found.low, found.high))} of the whole Hessian's, order 2; {on}",
        lies_in((found.tau, found.low, found.high), STRONG, inf),
    )


def _trace(found: Correlation, on: str) -> Claim:
    weak = {"agrees": "differs", "differs": "agrees"}
    judged = _beyond(found, WEAK)
    return Claim(
        "Rényi sharpness, abstract",
        "earlier measures often do not (trace: tau -.05, unconfirmed)",
        f"tau {said((found.tau, found.low, found.high))}; {on}",
        weak.get(judged, judged),
    )


def _beyond(found: Correlation, size: float) -> str:
    """Whether |tau| is above a size: agrees, below it: differs."""
    if found.low > size or found.high < -size:
        return "agrees"
    return "differs" if -size < found.low and found.high < size else "cannot say"


def _geodesic(evidence: Evidence) -> Claim:
    names = "geodesic", "worst_case_gap_adaptive"
    low, high = difference(evidence.rows, *names, cluster=evidence.cluster)
    taus = " and ".join(f"{evidence.correlations[name].tau:+.2f}" for name in names)
    return Claim(
        "Hide & Seek, abstract",
        "geodesic sharpness follows the gap of transformers more closely than adaptive sharpness",
        f"tau {taus}, difference of the sizes [{low:+.2f}, {high:+.2f}]; {_on(evidence)}",
        verdict((nan, low, high)),
    )
