"""What a training run is: data, network, rule, optimiser and schedule. Equal configs give equal weights."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.checks import integer_in, not_negative, one_of, positive, require
from landscape.data import Augmentation, check_source
from landscape.models import build
from landscape.storage.settings import read_settings
from landscape.training.objectives import OBJECTIVES, Objective
from landscape.training.optimizers.adahessian import AdaHessian
from landscape.training.optimizers.lookahead import lookahead
from landscape.training.rules import RULES, Rule
from landscape.training.trainer.setting_types import check_types

OPTIMIZERS = ("sgd", *RULES, "adahessian")
IN_PASS_2 = ("top_samples", "adversarial")  # objectives that change what a rule's further passes see, and no more
FOUND_BY_THE_TRAINER = {"eigen_sam": "top", "ssam_f": "fisher"}  # the argument that no setting can hold


@dataclass(frozen=True)
class TrainConfig:
    """A training run. All is checked when it is made: ValueError.

    Attributes:
        folder: where the run is kept; a run with the same config is resumed there.
        dataset: a name in `landscape.data.DATASETS`.
        data_path: folder of its files, for "npz" the file; empty for "digits".
        label_noise: fraction of training labels moved to another class, in [0, 1); the test labels stay clean.
        bootstrap_rounds: how often to train, take the network's own predictions as labels, and train anew from scratch;
            all from the same seed; the earlier networks lie in `teacher` below the folder. 1 is the SAM paper's.
        model: a name in `landscape.models.MODELS`.
        model_settings: its arguments.
        optimizer: "sgd", "adahessian", or a name in `landscape.training.rules.RULES` around SGD.
        rule_settings: the arguments of the rule (rho, alpha, period, ...) or of AdaHessian (betas, eps, ...).
        m_sharpness: samples of a batch that share a perturbation of the rule, m; 0 is the whole batch.
        objective: a name in `landscape.training.objectives.OBJECTIVES`: what a step minimises. ESAM is the optimizer
            "esam" with the objective "top_samples".
        objective_settings: its arguments (lmbda, tau, gamma, ...).
        lr: learning rate at the start.
        momentum: of SGD, in [0, 1).
        weight_decay: of SGD added to the gradient, of AdaHessian decoupled; at w.
        batch_size: images a step; the last batch of an epoch may be smaller.
        epochs: passes over the training data.
        cosine: lower lr along half a cosine, an epoch at a time; else lr is constant.
        lookahead_steps: k of `lookahead` around the optimiser; 0 leaves it out.
        lookahead_alpha: its share of the way that is kept, in (0, 1].
        swa_from: the first epoch, counted from 1, at whose end the weights enter an average, which is the run's network
            (batch norm measured anew over the training images); 0 leaves it out. Its paper has cosine=False.
        label_smoothing: in [0, 1), of the training loss only.
        crop: pixels of padding of random crops; 0 leaves them out.
        flip: whether to mirror images at random.
        cutout: side of the square that is cut out; 0 leaves it out.
        mixup: alpha of mixup; 0 leaves it out.
        seed: of initialisation, order of the images, augmentation, dropout and label noise.
        eigen_samples: training images on which Eigen-SAM finds its eigenvector, SSAM-F its squared gradients, the
            first ones.
        eigen_products: products with their Hessian a refresh; 5 is the paper's.
        checkpoint_epochs: epochs, counted from 1, whose network is kept as well, in `epoch-N` below the folder.
        diagnostics_every: steps between rows of diagnostics.jsonl (λmax, surrogate gap, alignments, norms), which
            change no weight; 0 leaves them out.
        diagnostics_samples: training images they are taken on, the first ones. A row costs some 20 gradients on them.
        diagnostics_rho: radius of their surrogate gap.
        progress: show a bar; None shows it on a terminal only.
    """

    folder: str | Path
    dataset: str = "digits"
    data_path: str = ""
    label_noise: float = 0.0
    bootstrap_rounds: int = 0
    model: str = "resnet"
    model_settings: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    rule_settings: dict[str, Any] = field(default_factory=dict)
    m_sharpness: int = 0
    objective: str = "plain"
    objective_settings: dict[str, Any] = field(default_factory=dict)
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    epochs: int = 60
    cosine: bool = True
    lookahead_steps: int = 0
    lookahead_alpha: float = 0.5
    swa_from: int = 0
    label_smoothing: float = 0.0
    crop: int = 0
    flip: bool = False
    cutout: int = 0
    mixup: float = 0.0
    seed: int = 0
    eigen_samples: int = 256
    eigen_products: int = 5
    checkpoint_epochs: list[int] = field(default_factory=list)
    diagnostics_every: int = 0
    diagnostics_samples: int = 256
    diagnostics_rho: float = 0.05
    progress: bool | None = None

    @classmethod
    def from_yaml(cls, path: str | Path, **changes: Any) -> "TrainConfig":
        """The run that a YAML file describes: the fields' names and values.

        Args:
            path: the file.
            changes: fields that replace the file's; `folder` belongs here where the file has none.
        Raises:
            ValueError: if the file is broken, or holds an unknown name or a value of the wrong type.
        """
        settings = read_settings(path)
        check_types(settings, {item.name: item.type for item in fields(cls)}, path)
        settings |= changes
        require("folder" in settings, f"folder must be given, in {path} or beside it")
        return cls(**settings)

    def __post_init__(self) -> None:
        check_source(self.dataset, self.data_path)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("objective", self.objective, OBJECTIVES)
        positive("lr", self.lr)
        not_negative("weight_decay", self.weight_decay)
        for name in ("label_noise", "momentum", "label_smoothing"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} must be in [0, 1), got {value!r}")
        for name in ("batch_size", "epochs", "eigen_samples", "eigen_products", "diagnostics_samples"):
            integer_in(name, getattr(self, name), 1)
        for name in ("m_sharpness", "bootstrap_rounds", "lookahead_steps", "diagnostics_every"):
            integer_in(name, getattr(self, name), 0)
        integer_in("swa_from", self.swa_from, 0, self.epochs)
        for epoch in self.checkpoint_epochs:
            integer_in("checkpoint_epochs", epoch, 1, self.epochs)
        positive("diagnostics_rho", self.diagnostics_rho)
        integer_in("seed", self.seed, 0, 2**32 - 1)
        require(
            self.optimizer != "sgd" or not self.rule_settings,
            f"rule_settings must be empty for 'sgd', got {self.rule_settings}",
        )
        require(
            not self.m_sharpness or (self.optimizer in RULES and self.objective == "plain"),
            f"m_sharpness needs a rule and the plain objective, got {self.optimizer!r} and {self.objective!r}",
        )
        require(
            self.optimizer in RULES or self.objective not in IN_PASS_2,
            f"objective {self.objective!r} needs a rule with a second pass, not {self.optimizer!r}; take 'sam'",
        )
        self.base([torch.zeros(1, device="cpu")])
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
            base = _made("rule_settings", self.optimizer, make, self.rule_settings)
        else:
            base = torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        return lookahead(base, self.lookahead_steps, self.lookahead_alpha) if self.lookahead_steps else base

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
        """All that decides what the run holds, as JSON has it: not the folder, not the bar."""
        chosen = {name: value for name, value in asdict(self).items() if name not in ("folder", "progress")}
        return dict(json.loads(json.dumps(chosen)))


def _made(field_name: str, name: str, make: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """make(**settings). Raises ValueError if they do not fit."""
    try:
        return make(**settings)
    except TypeError as error:
        raise ValueError(f"{field_name} must fit {name!r}: {error}") from error
