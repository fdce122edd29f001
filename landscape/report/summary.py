"""The study in words: what was found, with its uncertainty, and what the networks at hand cannot tell."""

from collections.abc import Mapping, Sequence
from typing import Any

from landscape.plots.style import words
from landscape.study import Correlation

Rows = Sequence[Mapping[str, Any]]
BASELINE = "sgd"


def findings(rows: Rows, correlations: Mapping[str, Correlation]) -> list[str]:
    """Sentences on the networks, their sharpness, and which metrics follow the gap."""
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    sentences = [
        f"{len(rows)} networks were trained with {len(rules)} rules ({', '.join(words(rule) for rule in rules)}) and "
        f"{len({row['seed'] for row in rows})} seeds; test accuracy runs from {_extreme(rows, 'test_accuracy', min)} "
        f"to {_extreme(rows, 'test_accuracy', max)}, the generalisation gap (test loss − training loss) from "
        f"{_extreme(rows, 'generalization_gap', min)} to {_extreme(rows, 'generalization_gap', max)}."
    ]
    if "lambda_max" in correlations and BASELINE in rules:
        sentences.append(_against_baseline(rows, [rule for rule in rules if rule != BASELINE]))
    clear = [name for name, found in correlations.items() if found.low > 0 or found.high < 0]
    strongest = max(correlations, key=lambda name: abs(correlations[name].tau))
    found = correlations[strongest]
    sentences.append(
        f"Of {len(correlations)} metrics, {len(clear)} have a 95 % interval of Kendall's tau with the gap that leaves "
        f"out 0{': ' + ', '.join(words(name) for name in clear) if clear else ''}. The largest |tau| is that of "
        f"{words(strongest)}: {found.tau:+.2f} [{found.low:+.2f}, {found.high:+.2f}]."
    )
    return sentences


def limits(rows: Rows, correlations: Mapping[str, Correlation]) -> list[str]:
    """Sentences on what these networks cannot show."""
    count, rules = len(rows), len({row["rule"] for row in rows})
    widths = sorted(found.high - found.low for found in correlations.values())
    sentences = [
        f"{count} networks are few: the median interval of tau is {widths[len(widths) // 2]:.1f} wide. Two metrics "
        "whose intervals overlap cannot be ranked against each other.",
        f"The networks come in {rules} groups of one training rule each and differ in little else. A metric can follow "
        "the gap here because a rule lowers both; the table shows association between these groups, not that flatness "
        "causes generalisation, and the bootstrap, which takes networks for independent, makes the intervals too "
        "narrow rather than too wide.",
        f"{len(correlations)} metrics were tried on one table. By chance alone one in twenty intervals leaves out 0.",
        f"The networks stop at training losses from {_extreme(rows, 'train_loss', min)} to "
        f"{_extreme(rows, 'train_loss', max)}, so that sharpness is compared between networks that fit the data "
        "unequally well.",
        "One data set, one architecture, one learning rate: nothing here says what happens elsewhere.",
    ]
    if any(row["label_noise"] > 0 for row in rows):
        sentences.append(
            "The training labels are noisy and the test labels clean: a network that does not fit the noise has a high "
            "training loss, so that its gap can be negative. The gap measures memorisation as much as generalisation."
        )
    return sentences


def _against_baseline(rows: Rows, others: Sequence[str]) -> str:
    """On how many seeds each rule has a lower lambda_max than plain SGD."""
    base = {row["seed"]: row["lambda_max"] for row in rows if row["rule"] == BASELINE}
    parts = []
    for rule in others:
        own = [row for row in rows if row["rule"] == rule and row["seed"] in base]
        lower = sum(row["lambda_max"] < base[row["seed"]] for row in own)
        parts.append(
            f"{words(rule)} {_mean(row['lambda_max'] for row in own):.3g} (lower on {lower} of {len(own)} seeds)"
        )
    return f"lambda max averages {_mean(base.values()):.3g} for {BASELINE}; " + ", ".join(parts) + "."


def _extreme(rows: Rows, key: str, choose: Any) -> str:
    return f"{choose(row[key] for row in rows):.3f}"


def _mean(values: Any) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
