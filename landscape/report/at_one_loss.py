"""What the page says first: what follows the gap where the training loss is held."""

from landscape.plots.style import words
from landscape.report.evidence import TRAIN_LOSS, Evidence
from landscape.report.wording import both_ways, extreme, partial, tau

UNREACHED = "the training loss must come down to"
GAPS = {
    "accuracy_gap": "in error",
    "noisy_generalization_gap": "in loss to noisy test labels",
    "noisy_accuracy_gap": "in error to noisy test labels",
}


def at_one_loss(evidence: Evidence) -> list[str]:
    """Which metrics follow the gap, held by training or else by a partial correlation, and the other gaps."""
    correlations, rows = evidence.correlations, evidence.rows
    follows = {name: evidence.follows(correlations[name]) for name in evidence.order}
    count, text = sum(map(abs, follows.values())), tau if evidence.held else partial
    if evidence.held:
        among = f"{count} of {len(follows)} metrics (the training loss is one)"
        said = (
            f"Among networks trained to one training loss ({evidence.held:g}; they reached "
            f"{extreme(rows, 'train_loss', min)} to {extreme(rows, 'train_loss', max)}), {among} follow the gap in "
            "loss: Kendall's tau, p below 0.05 after correction"
        )
    else:
        others = len(follows) - (TRAIN_LOSS in follows)  # held, it tells nothing
        said = (
            f"Where the training loss is held fixed by a partial rank correlation, {count} of {others} metrics follow "
            f"the gap in loss: the 95 % interval leaves out 0, which chance alone gives about {0.05 * others:.0f} of "
            "them"
        )
    rising, falling = ([name for name, way in follows.items() if way == sign] for sign in (1, -1))
    ways = both_ways(rising, falling, lambda name: text(correlations[name]))
    return [f"{said}. {ways}.", *_other_gaps(evidence, follows)]


def _other_gaps(evidence: Evidence, follows: dict[str, int]) -> list[str]:
    """How many of these metrics follow another gap the same way."""
    others = {"accuracy_gap": evidence.in_error} if evidence.in_error else {}
    parts = []
    for gap, found in {**others, **evidence.noisy}.items():
        ways = {name: evidence.follows(own) for name, own in found.items()}
        same = sum(way != 0 and way == follows[name] for name, way in ways.items())
        parts.append(f"{GAPS[gap]} {sum(map(abs, ways.values()))} ({same} the same way)")
    return [f"The same criterion with other gaps: {', '.join(parts)}."] if parts else []


def left_out(evidence: Evidence) -> list[str]:
    """Networks that are in no number; those that did not come down to the training loss are counted."""
    high = [name for name, reason in evidence.broken.items() if UNREACHED in reason]
    sentences = [
        f"Network {words(name)} failed and is in no number here: {reason}."
        for name, reason in evidence.broken.items()
        if name not in high
    ]
    if high:
        sentences.insert(
            0,
            f"{len(high)} of {len(high) + len(evidence.rows)} networks did not come down to the training loss within "
            "their epochs and are in no number here, which favours settings that fit fast.",
        )
    return sentences
