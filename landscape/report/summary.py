"""The study in words: what was found, with its uncertainty, and what the networks at hand cannot tell."""

from collections.abc import Iterable
from math import isfinite, isnan
from typing import Any

from landscape.plots.style import words
from landscape.report.at_one_loss import at_one_loss, left_out
from landscape.report.evidence import TRAIN_LOSS, Evidence
from landscape.report.wording import SHOWN, both_ways, extreme, listed, named, partial, tau
from landscape.study.statistics.interval import FEWEST, ROUGH
from landscape.study.statistics.sign_error import LEAST

BASELINE = "sgd"


def findings(evidence: Evidence) -> list[str]:
    """Sentences on the networks, and on which metrics follow the gap."""
    rows, correlations = evidence.rows, evidence.correlations
    sentences = [*at_one_loss(evidence), compared(evidence)]
    if "lambda_max" in correlations and BASELINE in {row.get("rule") for row in rows}:
        sentences += _against_baseline(evidence)
    clear = evidence.clear
    if not (evidence.held and clear):  # else it was said first
        sentences.append(_following(evidence))
    if clear:
        sentences += [_given_training_loss(evidence)] if clear != [TRAIN_LOSS] else []
        sentences += _across_settings(evidence)
    for family, found in evidence.selections.items():
        chosen = ", ".join(f"{words(name)} {share:.0%}" for name, share in list(found.chosen.items())[:SHOWN])
        sentences.append(
            f"{words(family)}: the variant chosen on half of the settings ({chosen} of the halvings) has tau "
            f"{found.tau:+.2f} on the other half ({found.low:+.2f} to {found.high:+.2f} over the halvings); chosen and "
            f"judged on all networks {words(found.best)} would have {found.best_tau:+.2f}."
        )
    return sentences


def compared(evidence: Evidence) -> str:
    """Which networks there are."""
    rows = evidence.rows
    return (
        f"{len(rows)} networks were compared, which differ in {listed(evidence.axes) or 'nothing'}; the generalisation "
        f"gap (test loss − training loss) runs from {extreme(rows, 'generalization_gap', min)} to "
        f"{extreme(rows, 'generalization_gap', max)}, the test loss from {extreme(rows, 'test_loss', min)} to "
        f"{extreme(rows, 'test_loss', max)}."
    )


def limits(evidence: Evidence) -> list[str]:
    """Sentences on what these networks cannot show."""
    rows, correlations = evidence.rows, evidence.correlations
    widths = sorted(found.high - found.low for found in correlations.values() if isfinite(found.low))
    count = max(found.clusters for found in correlations.values())
    sentences = [
        f"{len(rows)} networks, {count} settings: the median interval of tau is "
        f"{widths[len(widths) // 2] if widths else 0:.2f} wide. Pairs of networks that differ by their seed alone do "
        "not count; the settings are those of the grid, not a sample of all there are."
        if count < len(rows)
        else f"{len(rows)} networks, each taken for independent of the others: the median interval of tau is "
        f"{widths[len(widths) // 2] if widths else 0:.2f} wide, and too narrow where networks have settings in common.",
        _level(evidence),
        f"{len(correlations)} metrics were tried on one table: a single 95 % interval leaves out 0 by chance one time "
        "in twenty. By tau 'follows the gap' is said only where the p-value, corrected for all metrics, is below 0.05"
        + (". " if evidence.held else "; where the training loss is held fixed, of an interval that leaves out 0. ")
        + (
            "Of each family the variant was chosen by nested selection; every other order, layer and radius "
            "was fixed in the configuration."
            if evidence.selections
            else "Every order, layer and radius was fixed in the configuration, none was chosen by its correlation."
        ),
        "A metric can follow the gap because a setting moves both. psi, K and the sign error look beyond single "
        "settings; none of them shows that flatness causes generalisation.",
        f"The networks stop at training losses from {extreme(rows, 'train_loss', min)} to "
        f"{extreme(rows, 'train_loss', max)}: "
        + (
            "the last epoch carries some further than others below the loss they were trained to."
            if evidence.held
            else "sharpness is compared between networks that fit the data unequally well, which the partial "
            "correlation takes into account by ranks only."
        ),
        f"What was not varied is not answered for. Varied: {listed(evidence.axes) or 'nothing'}.",
    ]
    sentences += _few(evidence, count)
    if any(row.get("label_noise", 0) > 0 for row in rows):
        sentences.append(
            "Training labels are noisy and test labels clean: a network that does not fit the noise has a high "
            "training loss, so that its gap can be negative. The gap measures memorisation as much as generalisation."
            + (" The gap to test labels as noisy as those trained on stands beside it." if evidence.noisy else "")
        )
    lacking = {name: len(rows) - found.count for name, found in correlations.items() if found.count < len(rows)}
    if lacking:
        parts = ", ".join(f"{words(name)} on {missing}" for name, missing in lacking.items())
        sentences.append(f"Not finite, and left out for that metric: {parts} of {len(rows)} networks.")
    if evidence.rare:
        sentences.append(f"Finite on too few networks to say anything: {listed(evidence.rare)}.")
    return sentences + left_out(evidence)


def _following(evidence: Evidence) -> str:
    correlations, clear = evidence.correlations, evidence.clear
    if not clear:
        found = correlations[evidence.best]
        return (
            f"By plain tau none of {len(correlations)} metrics follows the gap beyond doubt; the largest |tau| is that "
            f"of {words(evidence.best)}: {tau(found)}, p = {found.p_corrected:.2g} after correction."
        )
    loss = TRAIN_LOSS in correlations
    rising = [name for name in clear if correlations[name].tau > 0]
    falling = [name for name in clear if correlations[name].tau < 0]
    return (
        f"By plain tau, which does not ask for the training loss, {len(clear)} of {len(correlations)} metrics follow "
        f"the gap (p below 0.05 after correction for all of them{', the training loss is one' * loss}). "
        f"{both_ways(rising, falling, lambda name: tau(correlations[name]))}."
    )


def _across_settings(evidence: Evidence) -> list[str]:
    """What is left where hyper-parameters are held fixed."""
    correlations = evidence.correlations
    sentences = []
    known = {name: own for name, own in correlations.items() if isfinite(own.information)}
    if known:
        told = max(known, key=lambda name: known[name].information)
        sentences.append(
            f"Beyond any two hyper-parameters the order by {words(told)} tells most of the gap's order: "
            f"K = {known[told].information:.2f}, where 1 is all of it and chance gives "
            f"{known[told].information_null:.2g}."
        )
    psi = {axis: value for axis, value in correlations[evidence.clear[0]].psi.items() if isfinite(value)}
    if psi:
        parts = ", ".join(f"{words(axis)} {value:+.2f}" for axis, value in psi.items())
        sentences.append(
            f"Among networks that differ in one setting alone, psi of {words(evidence.clear[0])} is {parts}."
        )
    judged = {name: own for name, own in evidence.judged_sign_error.items() if isfinite(own.sign_error)}
    if judged:
        lowest = min(judged, key=lambda name: judged[name].sign_error)
        best = judged[lowest]
        better = [name for name, own in judged.items() if own.sign_error < own.sign_error_null_low]
        sentences.append(
            f"Changing one setting from one value to another, every metric orders at least {best.sign_error:.0%} of "
            f"the pairs wrongly in its worst case, {words(lowest)} the fewest; exchanged gaps give "
            f"{best.sign_error_chance:.0%} on average and less than {best.sign_error_null_low:.0%} one time in twenty, "
            f"which {len(better)} of {len(judged)} metrics stay below{named(better)}."
        )
    return sentences


def _few(evidence: Evidence, settings: int) -> list[str]:
    """What so few settings, or seeds, leave open."""
    sentences = []
    if settings < FEWEST:
        sentences.append(f"Fewer than {FEWEST} settings have no interval.")
    elif any(found.rough for found in evidence.correlations.values()):
        sentences.append(
            f"Intervals of fewer than {ROUGH} settings are rough: they hold the truth in 88 % of tables or more, "
            "not in 95 %."
        )
    if not any(isfinite(found.sign_error) for found in evidence.judged_sign_error.values()):
        sentences.append(
            f"No change of one setting has the {LEAST} pairs with a resolved difference that the robust sign error "
            "asks for; four seeds a setting are 16."
        )
    return sentences


def _against_baseline(evidence: Evidence) -> list[str]:
    """How often each rule has a lower lambda_max than plain SGD, all else equal."""
    others = [axis for axis in evidence.axes if axis != "rule"]

    def by_setting(rule: str) -> dict[tuple[Any, ...], float]:
        return {tuple(row[axis] for axis in others): row["lambda_max"] for row in evidence.rows if row["rule"] == rule}

    base = by_setting(BASELINE)
    parts = []
    for rule in dict.fromkeys(row["rule"] for row in evidence.rows if row["rule"] != BASELINE):
        own = {key: value for key, value in by_setting(rule).items() if key in base}
        lower = sum(value < base[key] for key, value in own.items())
        if own:
            parts.append(f"{words(rule)} {_mean(own.values()):.3g} (lower in {lower} of {len(own)} pairs)")
    if not parts:
        return []
    return [f"lambda max averages {_mean(base.values()):.3g} for {BASELINE}; all else equal, {', '.join(parts)}."]


def _level(evidence: Evidence) -> str:
    best, count = words(evidence.best), len(evidence.level)
    if not count:
        return (
            f"The largest |tau| is that of {best}; the interval of its difference to every other leaves out 0, but it "
            "was chosen for its tau on the same networks."
        )
    return (
        f"The largest |tau|, that of {best}, cannot be told from that of {count} other{'s' if count > 1 else ''}"
        f"{named(evidence.level)}: the interval of the difference holds 0."
    )


def _given_training_loss(evidence: Evidence) -> str:
    """Which of the metrics that follow the gap do so beyond what the training loss tells."""
    correlations, clear = evidence.correlations, [name for name in evidence.clear if name != TRAIN_LOSS]
    kept = [name for name in clear if correlations[name].partial_low > 0 or correlations[name].partial_high < 0]
    unknown = sum(isnan(correlations[name].partial_low) for name in clear)
    loss = TRAIN_LOSS in evidence.clear
    left = f"; for {unknown} the networks leave it open, so closely gap and training loss are tied" if unknown else ""
    return (
        f"Given the training loss, {_keep(len(kept), len(clear), loss)} a rank correlation with the gap whose interval "
        f"leaves out 0{named(kept, lambda name: partial(correlations[name]))}{left}."
    )


def _keep(kept: int, count: int, others: bool) -> str:
    """ "2 of these 3 keep"; `others`: the training loss is one beside them."""
    if count == 1:
        return f"{'the other one' if others else 'this one'} {'keeps' if kept else 'does not keep'}"
    return f"{kept or 'none'} of these {count}{' others' * others} {'keep' if kept > 1 else 'keeps'}"


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
