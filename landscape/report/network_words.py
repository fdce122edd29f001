"""One network in words: what was found, what the numbers rest on, and what they cannot tell."""

import inspect
from math import isfinite, isnan

import torch

from landscape.metrics import METRICS
from landscape.plots.captions import BATCH_NORM
from landscape.plots.style import words
from landscape.problem.batch_norm import batch_norm_layers
from landscape.report.network_findings import MEANING, NetworkFindings
from landscape.storage.results import Slice1D
from landscape.storage.results.shown import with_error

TRAIN = "train"
WRONG = 0.01  # disagreement of a product that a reader must know of


def meaning(row: str) -> str:
    """What a measure is, at the settings it was run with."""
    name = row.partition("[")[0]
    metric = METRICS[name]
    if name in MEANING:
        return MEANING[name].format(**metric.all_settings({}))
    return (inspect.getdoc(metric.function) or "").partition("\n")[0]


def summary(found: NetworkFindings) -> str:
    """The answer, in one sentence."""
    pairs, loss = found.pairs, _at_network(found.line)
    top = int(pairs.values.argmax())
    least = "" if pairs.converged[top] else "at least "
    value = with_error(float(f"{float(pairs.values[top]):.4g}"), float(pairs.residuals[top]))
    total = f"{float(found.total.value):.4g} ± {float(found.total.stderr):.2g}"
    parts = [
        f"At a training loss of {loss:.3g} the largest eigenvalue of the Hessian is {least}{value} and its trace "
        f"{total}"
    ]
    worst = found.measures.get("worst_case_gap")
    if worst is not None:
        rho, rise = METRICS["worst_case_gap"].all_settings({})["rho"], float(worst.value)
        share = f" ({rise / loss:.0%} of it)" if loss > 0 else ""
        parts.append(f"the loss rises by up to {rise:.3g}{share} within a distance of {rho} of the weights")
    ends = [float(found.line.loss[_first(found.line)][index]) for index in (0, -1)]
    far = (
        f"at the ends of a random direction whose filters are as long as the network's own it is up to {max(ends):.3g}"
    )
    return f"{'; '.join(parts)}; {far}."


def about(found: NetworkFindings) -> dict[str, str]:
    """Which network, on which data."""
    problem, line = found.problem, found.line
    losses = []
    for split in line.loss:
        accuracy = _at_network(line, split, accuracy=True)
        right = f", accuracy {accuracy:.1%}" if isfinite(accuracy) else ""
        losses.append(f"{split} {_at_network(line, split):.4g}{right}")
    criterion = getattr(problem.criterion, "__name__", type(problem.criterion).__name__)
    return {
        "network": f"{type(problem.model).__name__} of {found.name}, {problem.size:,} parameters",
        "data": f"{problem.extent}, {words(criterion)}",
        "losses": "; ".join(losses),
    }


def curvature(found: NetworkFindings) -> list[str]:
    """The spectrum, in sentences."""
    pairs, density, size = found.pairs, found.density, found.problem.size
    values, total = pairs.values.double(), float(found.total.value)
    low, high = float(density.nodes.min()), float(density.nodes.max())
    top = float(values.max())
    negative = int((values < 0).sum())
    share = float(torch.where(density.nodes < 0, density.weights, 0.0).sum(1).mean())
    sentences = [
        f"The trace is {total:.4g} ± {float(found.total.stderr):.2g} (standard error, {found.total.matvecs} products): "
        f"{total / size:.2g} a parameter on average, where the largest eigenvalue is {top:.4g}.",
        f"The spectrum reaches from about {low:.3g} to {high:.4g}. By the density some {share:.0%} of the {size:,} "
        f"eigenvalues are below 0, by however little.",
    ]
    if negative:
        sentences.append(
            f"{negative} of the {len(values)} eigenvalues of largest size are negative, the least "
            f"{float(values.min()):.3g}: the loss curves down along these directions, the network is at no minimum."
        )
    return sentences


def checks(found: NetworkFindings) -> list[tuple[bool, str, str]]:
    """Whether it is well, what was looked at, and what was seen."""
    pairs, measures = found.pairs, found.measures
    off, sure = pairs.verified, int(pairs.converged.sum())
    lines = []
    if off is not None:
        said = "the differences were too small to decide" if isnan(off) else f"they differ by {off:.1g} of its length"
        lines.append(
            (not off > 0.01, "products", f"a Hessian product was held against differences of gradients: {said}")
        )
    lines.append(
        (sure == len(pairs.values), "eigenvalues", f"{sure} of {len(pairs.values)} have converged to their bounds")
    )
    still = measures.not_converged
    told = (
        f"{', '.join(map(words, still))} ended at the cap of steps: a lower bound"
        if still
        else "all have ended by themselves"
    )
    lines.append((not still, "ascents", told))
    layers = len(batch_norm_layers(found.problem.model))
    policy = BATCH_NORM[found.problem.batch_norm]
    told = f"{layers} layer{'s' * (layers > 1)}, on {policy}" if layers else "the network has no such layers"
    lines.append((True, "batch norm", told))
    return lines + [(own.ok, f"slice: {own.name}", own.words) for own in found.check.findings]


def limits(found: NetworkFindings) -> list[str]:
    """What these numbers cannot show."""
    sentences = [
        "One network cannot say whether sharpness goes with generalisation: that takes many, trained alike but for one "
        "setting; landscape study sets them side by side.",
        "Eigenvalues, trace and gaps at a fixed distance change when layers are rescaled though the network computes "
        "the same; only the adaptive measures do not. Compare networks of one architecture, on one data set.",
        f"The slices are 2 of {found.problem.size:,} directions, at random: they pass by the sharpest ones, whose "
        "curvature the eigenvalues tell.",
        "A worst case found by an ascent is a lower bound; ± of a sampled number is the error of computing it on these "
        "data, not that of other data.",
    ]
    if found.effort.subset is not None:
        sentences.append(f"The slices are of {found.effort.subset:,} samples of each split at most.")
    return sentences


def _first(line: Slice1D) -> str:
    return TRAIN if TRAIN in line.loss else next(iter(line.loss))


def _at_network(line: Slice1D, split: str = "", *, accuracy: bool = False) -> float:
    values = (line.accuracy if accuracy else line.loss)[split or _first(line)]
    return float(values[int(line.x.abs().argmin())])
