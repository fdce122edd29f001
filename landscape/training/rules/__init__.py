"""Training rules: where a two-pass optimiser looks for the second gradient, and what it descends along.

Pass 1 gives g at w, the rule gives e, pass 2 gives g_adv at w + e, and the base optimiser steps at w with
d = descend(g, g_adv). A rule is a record of these two pure functions on flat vectors (P,); `SharpnessAware` is the
step around them. Below ĝ = g/|g|; wherever a vector that must be normalised is zero, so is the result.
"""

from collections.abc import Callable

from landscape.training.rules.balls import asam, random_perturbation, reverse_sam, rsam, sam, sam_on
from landscape.training.rules.curvature import egr, eigen_sam, sam_second_order
from landscape.training.rules.fisher import exact_fisher_sam, fisher_sam
from landscape.training.rules.local_entropy import entropy_sgd
from landscape.training.rules.masks import esam, ssam_d, ssam_f
from landscape.training.rules.mixtures import friendly_sam, gsam, looksam, wsam
from landscape.training.rules.rule import Context, Rule, State

RULES: dict[str, Callable[..., Rule]] = {
    "sam": sam,
    "asam": asam,
    "fisher_sam": fisher_sam,
    "exact_fisher_sam": exact_fisher_sam,
    "gsam": gsam,
    "eigen_sam": eigen_sam,
    "sam_second_order": sam_second_order,
    "reverse_sam": reverse_sam,
    "random_perturbation": random_perturbation,
    "egr": egr,
    "rsam": rsam,
    "sam_on": sam_on,
    "ssam_f": ssam_f,
    "ssam_d": ssam_d,
    "wsam": wsam,
    "looksam": looksam,
    "esam": esam,
    "friendly_sam": friendly_sam,
    "entropy_sgd": entropy_sgd,
}

__all__ = [
    "Context",
    "RULES",
    "Rule",
    "State",
    "asam",
    "egr",
    "eigen_sam",
    "entropy_sgd",
    "esam",
    "exact_fisher_sam",
    "fisher_sam",
    "friendly_sam",
    "gsam",
    "looksam",
    "random_perturbation",
    "reverse_sam",
    "rsam",
    "sam",
    "sam_on",
    "sam_second_order",
    "ssam_d",
    "ssam_f",
    "wsam",
]
