"""What a training run is: data, network, rule, optimiser and schedule. Equal configs give equal weights."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.checks import integer_in, not_negative, one_of, positive, require
from landscape.data import Augmentation, check_source
from landscape.models import build
from landscape.training.adahessian import AdaHessian
from landscape.training.objectives import OBJECTIVES, Objective
from landscape.training.rules import RULES, Rule

OPTIMIZERS = ("sgd", *RULES, "adahessian")
FOUND_BY_THE_TRAINER = {"eigen_sam": "top", "ssam_f": "fisher"}  # the argument that no setting can hold


@dataclass(frozen=True)
class TrainConfig:
    """A training run. All is checked when it is made: ValueError.

    Attributes:
        folder: where the run is kept; a run with the same config is resumed there.
        dataset: a name in `landscape.data.DATASETS`.
        data_path: folder of its files, for "npz" the file; empty for "digits".
        label_noise: fraction of training labels moved to another class, in [0, 1); the test labels stay clean.
        model: a name in `landscape.models.MODELS`.
        model_settings: its arguments.
        optimizer: "sgd", "adahessian", or a name in `landscape.training.rules.RULES` around SGD.
        rule_settings: the arguments of the rule (rho, alpha, period, ...) or of AdaHessian (betas, eps, ...).
        objective: a name in `landscape.training.objectives.OBJECTIVES`: what a step minimises. ESAM is the optimizer
            "esam" with the objective "top_samples".
        objective_settings: its arguments (lmbda, tau, gamma, ...).
        lr: learning rate at the start.
        momentum: of SGD, in [0, 1).
        weight_decay: of SGD added to the gradient, of AdaHessian decoupled; at w.
        batch_size: images a step; the last batch of an epoch may be smaller.
        epochs: passes over the training data.
        label_smoothing: in [0, 1), of the training loss only.
        crop, flip, cutout, mixup: augmentation of the training batches, as `landscape.data.Augmentation` has it.
        cosine: lower lr along half a cosine, an epoch at a time; else lr is constant.
        seed: of initialisation, order of the images, augmentation, dropout and label noise.
        eigen_samples: training images on which Eigen-SAM finds its eigenvector, SSAM-F its squared gradients, the
            first ones.
        eigen_products: products with their Hessian a refresh; 5 is the paper's.
        progress: show a bar; None shows it on a terminal only.
    """

    folder: str | Path
    dataset: str = "digits"
    data_path: str = ""
    label_noise: float = 0.0
    model: str = "resnet"
    model_settings: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    rule_settings: dict[str, Any] = field(default_factory=dict)
    objective: str = "plain"
    objective_settings: dict[str, Any] = field(default_factory=dict)
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    epochs: int = 60
    label_smoothing: float = 0.0
    crop: int = 0
    flip: bool = False
    cutout: int = 0
    mixup: float = 0.0
    cosine: bool = True
    seed: int = 0
    eigen_samples: int = 256
    eigen_products: int = 5
    progress: bool | None = None

    def __post_init__(self) -> None:
        check_source(self.dataset, self.data_path)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("objective", self.objective, OBJECTIVES)
        positive("lr", self.lr)
        not_negative("weight_decay", self.weight_decay)
        for name in ("label_noise", "momentum", "label_smoothing"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} must be in [0, 1), got {value!r}")
        for name in ("batch_size", "epochs", "eigen_samples", "eigen_products"):
            integer_in(name, getattr(self, name), 1)
        integer_in("seed", self.seed, 0, 2**32 - 1)
        require(
            self.optimizer != "sgd" or not self.rule_settings,
            f"rule_settings must be empty for 'sgd', got {self.rule_settings}",
        )
        self.base([torch.zeros(1)])
        self.minimised()
        self.augmentation()
        own = FOUND_BY_THE_TRAINER.get(self.optimizer)
        require(own not in self.rule_settings, f"rule_settings must not hold {own!r}: the trainer finds it itself")
        self.rule({"top": lambda: None, "fisher": lambda: None})
        with torch.device("meta"):  # checks the settings, makes no weights
            build(self.model, self.model_settings, self.seed)

    def base(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimiser that takes the step."""
        if self.optimizer == "adahessian":
            make = partial(AdaHessian, parameters, lr=self.lr, weight_decay=self.weight_decay, seed=self.seed)
            return _made("rule_settings", self.optimizer, make, self.rule_settings)
        return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def rule(self, found: Mapping[str, Callable[[], Any]]) -> Rule | None:
        """The rule, None for a plain optimiser; `found` holds "top" for Eigen-SAM and "fisher" for SSAM-F."""
        if self.optimizer not in RULES:
            return None
        own = FOUND_BY_THE_TRAINER.get(self.optimizer)
        make = partial(RULES[self.optimizer], **({own: found[own]} if own else {}))
        return _made("rule_settings", self.optimizer, make, self.rule_settings)

    def minimised(self) -> Objective:
        """A new objective: what a step minimises."""
        criterion = partial(F.cross_entropy, label_smoothing=self.label_smoothing, reduction="none")
        make = partial(OBJECTIVES[self.objective], criterion)
        return _made("objective_settings", self.objective, make, self.objective_settings)

    def augmentation(self) -> Augmentation:
        """What is done to every training batch."""
        return Augmentation(self.crop, self.flip, self.cutout, self.mixup)

    def settings(self) -> dict[str, Any]:
        """All that decides the weights, as JSON holds it: not the folder, not the bar."""
        chosen = {name: value for name, value in asdict(self).items() if name not in ("folder", "progress")}
        return dict(json.loads(json.dumps(chosen)))


def _made(field_name: str, name: str, make: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """make(**settings). Raises ValueError if they do not fit."""
    try:
        return make(**settings)
    except TypeError as error:
        raise ValueError(f"{field_name} must fit {name!r}: {error}") from error
