"""What a YAML file of `TrainConfig` may hold, as JSON schema: each choice has its own settings; groups may stand in it.

Left to Python are the ranges inside model_settings, rule_settings and objective_settings, and what relates two numbers.
"""

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import torch

from landscape.data import DATASETS, EMBEDDED
from landscape.models import MODELS
from landscape.storage.settings_record import schema_of
from landscape.training.objectives import OBJECTIVES
from landscape.training.optimizers.adahessian import AdaHessian
from landscape.training.optimizers.natural_gradient import NaturalGradient
from landscape.training.rules import RULES

GROUPS = {  # heading to the field with which it begins
    "Data": "dataset",
    "Network": "model",
    "Rule and objective": "optimizer",
    "Optimiser and schedule": "lr",
    "Regularisation and augmentation": "label_smoothing",
    "Seed and curvature": "seed",
    "Kept and measured on the way": "checkpoint_epochs",
    "Device and precision": "device",
}
SETTINGS_OF = {
    "dataset": "data_settings",
    "model": "model_settings",
    "optimizer": "rule_settings",
    "objective": "objective_settings",
    "base": "base_settings",
}
PLAIN = ("sgd", "plain")  # the base alone
BASES_OF_THEIR_OWN: dict[str, Any] = {"adahessian": AdaHessian, "natural_gradient": NaturalGradient}
OPTIMIZERS = ("sgd", *RULES, *BASES_OF_THEIR_OWN, "plain")
NO_BASE = ("Optimizer", "LBFGS", "SparseAdam", "Muon")  # of other weights, sparse gradients, matrices alone
OF_NO_BASE = {"lr", "weight_decay", "params", "maximize", "differentiable"}  # fields of their own, or no descent
BASES: dict[str, Any] = {
    name.lower(): kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in NO_BASE
}
NEEDS_PASS_2 = "adversarial"  # the objective that is another function there: pass 2 is made at each step, for "sgd" too
NEEDS_A_RULE = {
    "adahessian": ["top_samples", NEEDS_PASS_2],
    "natural_gradient": [name for name in OBJECTIVES if name != "plain"],  # F is that of the criterion
    "sgd": ["top_samples"],
    "plain": ["top_samples"],
}
# the argument that no setting can hold
FOUND_BY_THE_TRAINER = {"eigen_sam": "top", "ssam_f": "fisher", "exact_fisher_sam": "operator"}
NO_SETTING = {*FOUND_BY_THE_TRAINER.values(), "criterion", "folder", "path", "label_noise", *OF_NO_BASE}
MAKERS: dict[str, Mapping[str, Any]] = {
    "dataset": DATASETS,
    "model": MODELS,
    "optimizer": {"plain": None, "sgd": None, **BASES_OF_THEIR_OWN, **RULES},
    "base": BASES,
    "objective": OBJECTIVES,
}


LATER = (  # settings that older runs lack: left out where they are the defaults
    *("data_settings", "auto_augment", "rand_augment", "rand_magnitude", "jitter", "erasing", "cutmix", "start_from"),
    *("base", "base_settings", "schedule", "warmup_epochs", "milestones", "decay", "clip_norm", "micro_batch"),
    *("stop_at_loss", "validation_share", "patience", "ema_decay", "precision", "channels_last", "compile"),
    *("lazy", "workers", "steps_per_epoch"),
)


def later_and_usual(config: Any) -> set[str]:
    """The names in LATER whose values are the defaults."""
    later = [item for item in fields(config) if item.name in LATER]
    usual = {item.name: item.default if item.default_factory is MISSING else item.default_factory() for item in later}
    return {name for name, default in usual.items() if getattr(config, name) == default}


def flatten_groups(content: Mapping[Any, Any]) -> dict[Any, Any]:
    """The settings of a file, those below a heading of GROUPS among them."""
    grouped = [own for heading, own in content.items() if heading in GROUPS and isinstance(own, Mapping)]
    flat = {name: value for name, value in content.items() if not (name in GROUPS and isinstance(value, Mapping))}
    for own in grouped:
        twice = sorted(own.keys() & flat.keys())
        if twice:
            raise ValueError(f"each setting must be given once, got twice: {', '.join(twice)}")
        flat |= own
    return flat


def group_names(names: Sequence[str]) -> dict[str, list[str]]:
    """Heading to those of the settings `names` that belong to it, in their order."""
    headings = {first: heading for heading, first in GROUPS.items()}
    found: dict[str, list[str]] = {heading: [] for heading in GROUPS}
    own: list[str] = []
    for name in names:
        own = found[headings[name]] if name in headings else own
        own.append(name)
    return found


def train_schema(config: type) -> dict[str, Any]:
    """The JSON schema of `TrainConfig`."""
    schema = schema_of(config)
    flat = schema["properties"]
    conditions = [
        _when({owner: [name]}, flat, {SETTINGS_OF[owner]: _only(_arguments(make))})
        for owner, makers in MAKERS.items()
        for name, make in makers.items()
    ]
    conditions.append(_when({"dataset": EMBEDDED}, flat, {"data_path": {"const": ""}}))
    filed = _when(
        {"dataset": [name for name in DATASETS if name not in EMBEDDED]}, flat, {"data_path": {"minLength": 1}}
    )
    conditions.append({**filed, "then": {**filed["then"], "required": ["data_path"]}})
    for name, refused in NEEDS_A_RULE.items():
        alone = {"objective": {"not": {"enum": refused}}, "m_sharpness": {"const": 0}}
        conditions.append(_when({"optimizer": [name]}, flat, alone))
    choices = {"allOf": [{"$ref": "#/$defs/choices"}], "additionalProperties": False}
    groups = {
        heading: {"type": "object", "properties": {name: flat[name] for name in names}, **choices}
        for heading, names in group_names(list(flat)).items()
    }
    del schema["required"]  # the folder may stand beside the file
    return {**schema, "properties": {**flat, **groups}, "$defs": {"choices": {"allOf": conditions}}, **choices}


def _when(choice: Mapping[str, Collection[str]], flat: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """These settings' schemas hold where the choice, or its default, is among the names."""
    (owner, names), *_ = choice.items()
    needed = [] if flat[owner]["default"] in names else [owner]
    condition = {"properties": {owner: {"enum": list(names)}}, "required": needed}
    return {"if": condition, "then": {"properties": dict(then)}}


def _arguments(make: Any) -> list[str]:
    return [] if make is None else [name for name in inspect.signature(make).parameters if name not in NO_SETTING]


def _only(names: Sequence[str]) -> dict[str, Any]:
    return {"properties": {name: {} for name in names}, "additionalProperties": False}
