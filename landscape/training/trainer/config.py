"""What a training run is: data, network, rule, optimiser and schedule. Equal configs give equal weights."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, field, fields
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from landscape.checks import integer_in, require
from landscape.data import DATASETS, Augmentation, check_lazy, check_settings, check_source
from landscape.models import MODELS, build, check_meant, model_maker
from landscape.models.by_name import OTHER
from landscape.problem.plugin import FORMS, named_function, resolved
from landscape.storage.settings import read_settings
from landscape.storage.settings_record import (
    Count,
    NotNegative,
    OneOf,
    Positive,
    Share,
    Size,
    from_settings,
    settings_record,
)
from landscape.training.objectives import OBJECTIVES, Objective
from landscape.training.optimizers.by_name import CLASSES, named_optimizer, try_out
from landscape.training.optimizers.lookahead import lookahead
from landscape.training.rules import RULES, Rule
from landscape.training.trainer.related import check_related
from landscape.training.trainer.schema import (
    BASES,
    BASES_OF_THEIR_OWN,
    FOUND_BY_THE_TRAINER,
    OPTIMIZERS,
    flatten_groups,
    later_and_usual,
    train_schema,
)


@settings_record
class TrainConfig:
    """A training run. All is checked when it is made: ValueError."""

    folder: str | Path
    """Where the run is kept; a run with the same config is resumed there."""
    dataset: Annotated[str, OneOf(DATASETS, FORMS)] = "digits"
    """A name in landscape.data.DATASETS; or FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION that gives (train, test)."""
    data_path: str = ""
    """Folder of its files, for "npz" the file; empty for "digits"; what a function is called with, if it is given."""
    data_settings: dict[str, Any] = field(default_factory=dict)
    """The reader's other arguments (image_size, length, ...)."""
    lazy: bool = False
    """Read samples as they are used and never hold them all: "folder", "huggingface" and map-style data sets of a
    function; its streams (torch's IterableDataset) always are."""
    workers: Size = 0
    """Processes that read ahead; above 0 the data are read lazily, with 0 in the process that trains."""
    steps_per_epoch: Size = 0
    """Steps after which an epoch of a stream ends, at the latest; what lowers lr by the step needs it. 0: where the
    stream ends."""
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of training labels moved to another class, in [0, 1]; the test labels stay clean. At 1 - 1/classes
    (0.9 of ten) the labels are fully random; at 1 all are wrong."""
    bootstrap_rounds: Size = 0
    """How often to train, take the network's own predictions as labels, and train anew from scratch; all from the same
    seed; the earlier networks lie in teacher below the folder. 1 is the SAM paper's."""
    model: Annotated[str, OneOf(MODELS, OTHER)] = "resnet"
    """A name in landscape.models.MODELS; or FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION that gives a network,
    timm:NAME, torchvision:NAME."""
    model_settings: dict[str, Any] = field(default_factory=dict)
    """Its arguments."""
    start_from: str = ""
    """Weights to begin with: a run folder, a .safetensors or a .pt file. What does not fit by name and shape, such as a
    new head, begins afresh, and stands in the run's metadata; at least half of the entries must fit."""
    optimizer: Annotated[str, OneOf(OPTIMIZERS)] = "sgd"
    """"plain", the base alone ("sgd" is its old name), "adahessian", "natural_gradient", or a name in
    landscape.training.rules.RULES around the base."""
    rule_settings: dict[str, Any] = field(default_factory=dict)
    """The arguments of the rule (rho, alpha, period, ...), of AdaHessian (betas, eps, ...) or of NaturalGradient
    (damping, products, ...)."""
    m_sharpness: Size = 0
    """Samples of a batch that share a perturbation of the rule, m; 0 is the whole batch."""
    objective: Annotated[str, OneOf(OBJECTIVES)] = "plain"
    """A name in landscape.training.objectives.OBJECTIVES: what a step minimises. ESAM is the optimizer "esam" with the
    objective "top_samples"."""
    objective_settings: dict[str, Any] = field(default_factory=dict)
    """Its arguments (lmbda, tau, gamma, ...)."""
    lr: Positive = 0.05
    """Learning rate at the start."""
    momentum: Share = 0.9
    """Momentum of SGD, in [0, 1); another base has its own in base_settings."""
    weight_decay: NotNegative = 5e-4
    """Weight decay, at w: in SGD added to the gradient, in AdamW and AdaHessian decoupled."""
    base: Annotated[str, OneOf(BASES, CLASSES)] = "sgd"
    """The optimiser that takes the step: a class of torch.optim, in small letters; or FILE.py:CLASS or
    PACKAGE.MODULE:CLASS, as pytorch_optimizer:LARS, pytorch_optimizer:Lamb."""
    base_settings: dict[str, Any] = field(default_factory=dict)
    """Its arguments beside lr and weight_decay (betas, eps, nesterov, ...)."""
    batch_size: Count = 128
    """Images a step; the last batch of an epoch may be smaller."""
    epochs: Count = 60
    """Passes over the training data."""
    cosine: bool = True
    """Lower lr along half a cosine, an epoch at a time; else lr is constant. `schedule` goes before."""
    schedule: Literal["", "cosine", "linear", "step", "constant"] = ""
    """How lr falls, by the step: along half a cosine or a line to 0, by `decay` at each of `milestones`, or not at all;
    empty: as `cosine` says."""
    warmup_epochs: NotNegative = 0.0
    """Epochs in which lr rises linearly, by the step."""
    milestones: Annotated[list[Count], Field(strict=False)] = field(default_factory=list)
    """Epochs after which the schedule "step" lowers lr."""
    decay: Positive = 0.1
    """Its factor."""
    clip_norm: NotNegative = 0.0
    """The norm to which the direction of a step is clipped; 0 leaves it out."""
    micro_batch: Size = 0
    """Images of a batch that go through the network at a time, where memory is short; gradients add up. 0 is all."""
    stop_at_loss: NotNegative = 0.0
    """Stop after the epoch at whose end the training loss (cross entropy, images not augmented, in eval mode) is at
    most this; `epochs` is the most. 0 leaves it out."""
    validation_share: Share = 0.0
    """Share of the training images, chosen by the seed, that is held out, in [0, 1)."""
    patience: Size = 0
    """Epochs without a better loss on them after which the training stops; the run's network is then the best one. 0
    leaves it out."""
    lookahead_steps: Size = 0
    """The k of lookahead around the optimiser; 0 leaves it out."""
    lookahead_alpha: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Its share of the way that is kept, in (0, 1]."""
    swa_from: Size = 0
    """The first epoch, counted from 1, at whose end the weights enter an average, which is the run's network (batch
    norm measured anew over the training images); 0 leaves it out. Its paper has cosine=False."""
    ema_decay: Share = 0.0
    """Decay a step of an exponential average of the weights, which is then the run's network; 0 leaves it out."""
    label_smoothing: Share = 0.0
    """Label smoothing in [0, 1), of the training loss only."""
    crop: Size = 0
    """Pixels of padding of random crops; 0 leaves them out."""
    flip: bool = False
    """Whether to mirror images at random."""
    cutout: Size = 0
    """Side of the square that is cut out; 0 leaves it out."""
    mixup: NotNegative = 0.0
    """Alpha of mixup; 0 leaves it out."""
    cutmix: NotNegative = 0.0
    """Alpha of CutMix; 0 leaves it out. With mixup too, one of them at random for each batch."""
    auto_augment: bool = False
    """Whether to change images by AutoAugment's policy for CIFAR-10."""
    rand_augment: Size = 0
    """Operations of RandAugment on each image; 0 leaves it out."""
    rand_magnitude: Annotated[float, Field(ge=0, le=30)] = 9.0
    """Their magnitude, in [0, 30]; 30 is the paper's 10."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Brightness, contrast and saturation are multiplied by factors in 1 - jitter to 1 + jitter; 0 leaves it out."""
    erasing: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability of random erasing; 0 leaves it out."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of initialisation, order of the images, augmentation, dropout and label noise."""
    eigen_samples: Count = 256
    """Training images on which Eigen-SAM finds its eigenvector, SSAM-F its squared gradients, exact Fisher SAM its F:
    the first ones."""
    eigen_products: Count = 5
    """Products with their Hessian a refresh; 5 is the paper's."""
    checkpoint_epochs: Annotated[list[Count], Field(strict=False)] = field(default_factory=list)
    """Epochs, counted from 1, whose network is kept as well, in epoch-N below the folder."""
    diagnostics_every: Size = 0
    """Steps between rows of diagnostics.jsonl (λmax, surrogate gap, alignments, norms), which change no weight; 0
    leaves them out."""
    diagnostics_samples: Count = 256
    """Training images they are taken on, the first ones. A row costs some 20 gradients on them."""
    diagnostics_rho: Positive = 0.05
    """Radius of their surrogate gap."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train: auto takes cuda where there is one, else mps, else cpu. A run may go on on another."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Of forward passes: float32, or bf16 or fp16 (with a gradient scaler) by autocast; weights stay float32."""
    channels_last: bool = False
    """Images and weights of convolutions in channels-last order, which GPUs like."""
    compile: bool = False
    """Whether to run the network through torch.compile."""
    progress: bool | None = None
    """Show a bar; None shows it on a terminal only."""

    @classmethod
    def from_yaml(cls, path: str | Path, **changes: Any) -> "TrainConfig":
        """The run that a YAML file describes: the fields' names and values, if you like below the headings of --help.

        Args:
            path: the file.
            changes: fields that replace the file's; `folder` belongs here where the file has none.
        Raises:
            ValueError: if the file is broken, or holds an unknown name or a value of the wrong type.
        """
        return from_settings(cls, flatten_groups(read_settings(path)), path, **changes)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON schema of such a file, for editors and other programs; `landscape train --schema` prints it."""
        return train_schema(cls)

    def __post_init__(self) -> None:
        check_source(self.dataset, self.data_path)
        object.__setattr__(self, "lazy", self.lazy or self.workers > 0)
        if self.lazy:
            check_lazy(self.dataset)
        integer_in("swa_from", self.swa_from, 0, self.epochs)
        for epoch in self.checkpoint_epochs:
            integer_in("checkpoint_epochs", epoch, 1, self.epochs)
        check_related(self)
        if ":" in self.base:
            try_out(self.base, lambda model: self.make_base(model.parameters(), model))
        else:
            self.make_base([torch.zeros(1, device="cpu")])
        self.make_objective()
        self.augmentation()
        own = FOUND_BY_THE_TRAINER.get(self.optimizer)
        require(own not in self.rule_settings, f"rule_settings must not hold {own!r}: the trainer finds it itself")
        self.rule(dict.fromkeys(FOUND_BY_THE_TRAINER.values(), lambda: None))
        for name in ("model", "dataset", "base"):
            object.__setattr__(self, name, resolved(getattr(self, name)))
        if ":" in self.dataset:
            named_function("dataset", self.dataset)
        else:
            check_settings(self.dataset, self.data_settings)
        check_meant(self.model, self.model_settings)
        if ":" in self.model:  # may want numbers of its parameters when it is made
            model_maker(self.model)
        else:
            with torch.device("meta"):  # checks the settings, makes no weights
                build(self.model, self.model_settings, self.seed)

    def make_base(self, parameters: Iterable[Tensor], model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser that takes the step; one of another library (PACKAGE.MODULE:CLASS) needs the model."""
        if self.optimizer in BASES_OF_THEIR_OWN:
            kind = BASES_OF_THEIR_OWN[self.optimizer]
            given = {
                name: getattr(self, name) for name in ("weight_decay", "seed") if name in signature(kind).parameters
            }
            make = partial(kind, parameters, lr=self.lr, **given)
            base = _make("rule_settings", self.optimizer, make, self.rule_settings)
        elif ":" in self.base:
            if model is None:
                raise ValueError(f"make_base needs the model for {self.base!r}: make_base(model.parameters(), model)")
            base = named_optimizer(self.base, model, self.lr, self.weight_decay, self.base_settings)
        else:
            momentum = {"momentum": self.momentum} if self.base == "sgd" else {}
            taken = self.weight_decay or "weight_decay" in signature(BASES[self.base]).parameters  # Rprop has none
            decay = {"weight_decay": self.weight_decay} if taken else {}
            make = partial(BASES[self.base], parameters, lr=self.lr)
            base = _make("base_settings and weight_decay", self.base, make, momentum | decay | self.base_settings)
        return lookahead(base, self.lookahead_steps, self.lookahead_alpha) if self.lookahead_steps else base

    def rule(self, found: Mapping[str, Callable[[], Any]]) -> Rule | None:
        """The rule, None for a plain optimiser; `found` holds what FOUND_BY_THE_TRAINER names."""
        if self.optimizer not in RULES:
            return None
        own = FOUND_BY_THE_TRAINER.get(self.optimizer)
        make = partial(RULES[self.optimizer], **({own: found[own]} if own else {}))
        return _make("rule_settings", self.optimizer, make, self.rule_settings)

    def make_objective(self) -> Objective:
        """A new objective: what a step minimises."""
        criterion = partial(F.cross_entropy, label_smoothing=self.label_smoothing, reduction="none")
        make = partial(OBJECTIVES[self.objective], criterion)
        return _make("objective_settings", self.objective, make, self.objective_settings)

    def augmentation(self) -> Augmentation:
        """What is done to the images of every training batch."""
        return Augmentation(**{item.name: getattr(self, item.name) for item in fields(Augmentation)})

    def settings(self) -> dict[str, Any]:
        """All that decides what the run holds, as JSON has it: not the folder, the device, the workers, the bar."""
        left_out = {"folder", "device", "workers", "progress", *later_and_usual(self)}
        chosen = {name: value for name, value in asdict(self).items() if name not in left_out}
        return dict(json.loads(json.dumps(chosen)))


def _make(field_name: str, name: str, make: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    """make(**settings). Raises ValueError if they do not fit."""
    try:
        return make(**settings)
    except TypeError as error:
        raise ValueError(f"{field_name} must fit {name!r}: {error}") from error
