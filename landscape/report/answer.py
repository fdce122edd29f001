"""The answer of a study in one sentence: what comes first, with its interval, beside chance and the training loss."""

from math import isfinite

from landscape.plots.style import words
from landscape.report.evidence import TRAIN_LOSS, Evidence
from landscape.report.wording import partial, tau


def answer(evidence: Evidence) -> str:
    """Which metric follows the gap, by how much, and whether it tells more than the training loss does."""
    correlations = evidence.correlations
    best = max(_measures(evidence), key=lambda name: _size(correlations[name].tau))
    found, count = correlations[best], len(_measures(evidence))
    first = f"Kendall's τ {tau(found)} with the generalisation gap"
    brackets = f"95 % interval in brackets{', rough' * found.rough}; " if isfinite(found.low) else ""
    read = f"{brackets}chance is 0"
    loss = correlations.get(TRAIN_LOSS)
    alone = f"the training loss alone has {tau(loss)}" if loss and isfinite(loss.tau) else ""
    if best not in evidence.clear:
        beside = f"; {alone}" if alone else ""
        return (
            f"None of {count} measures follows the gap beyond doubt: the nearest, {words(best)}, has {first} "
            f"({read}), p = {found.p_corrected:.2g} after correction{beside}."
        )
    if evidence.held:
        others = sum(name != best for name in evidence.clear if name != TRAIN_LOSS)
        beside = f"; {alone}" if alone else ""
        return (
            f"At one training loss {words(best)} follows the gap most closely: {first} ({read}){beside}, "
            f"and {others or 'none'} of the other {count - 1} measures {_follow(others)} it too."
        )
    beside = f", but {alone}" if alone else ""
    return (
        f"Counted plainly {words(best)} follows the gap most closely: {first} ({read}){beside}; "
        f"{_held_fixed(evidence)}."
    )


def _held_fixed(evidence: Evidence) -> str:
    """What is left where the training loss is held by a partial correlation."""
    correlations = evidence.correlations
    left = [name for name in evidence.order if evidence.follows(correlations[name])]
    if not left:
        return "with the training loss held fixed no measure's correlation with it can be told from 0"
    first = f"{words(left[0])} most, {partial(correlations[left[0]])}"
    return (
        f"with the training loss held fixed {len(left)} of {len(_measures(evidence))} measures still "
        f"{_follow(len(left))} it, {first} by ranks"
    )


def _measures(evidence: Evidence) -> list[str]:
    return [name for name in evidence.correlations if name != TRAIN_LOSS]


def _size(value: float) -> float:
    return abs(value) if isfinite(value) else -1.0


def _follow(count: int) -> str:
    return "follows" if count == 1 else "follow"
