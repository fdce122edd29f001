"""Objectives: what a training step minimises, where that is more than a criterion of the outputs."""

from collections.abc import Callable

from landscape.training.objectives.adversarial import AdversarialInputs
from landscape.training.objectives.contrastive import SupervisedContrastive
from landscape.training.objectives.mesa import Mesa
from landscape.training.objectives.objective import Objective
from landscape.training.objectives.saf import Saf
from landscape.training.objectives.top_samples import TopSamples

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "plain": Objective,
    "saf": Saf,
    "mesa": Mesa,
    "top_samples": TopSamples,
    "adversarial": AdversarialInputs,
    "supervised_contrastive": SupervisedContrastive,
}

__all__ = ["OBJECTIVES", "AdversarialInputs", "Mesa", "Objective", "Saf", "SupervisedContrastive", "TopSamples"]
