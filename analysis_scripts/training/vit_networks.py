"""The small ResNet, ViT and MLP-Mixer that the scripts vit_*.py share: trained plainly and by SAM, tuned alike, once.

All train for the same number of epochs, the ResNet by SGD and the others by AdamW, as in the paper; learning rate,
weight decay and radius of each are tuned by one random search. Digits, without wrong labels.
Source: Chen, Hsieh and Gong 2022, arXiv:2106.01548.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.described import KINDS, each_sized
from analysis_scripts._shared.many_networks import data_of, measured, none_failed
from analysis_scripts._shared.over_seeds import difference
from analysis_scripts._shared.random_search import Search, Tuned
from analysis_scripts._shared.variants import Variant, network, tune_at
from landscape.metrics import activations, attention_weights, lambda_max, ntk_condition_number, weight_norm
from landscape.models import build
from landscape.plots.style import RULES as LOOKS
from landscape.plots.style import look
from landscape.storage.results import read_json
from landscape.study.robustness import robustness

TITLES = {model: KINDS[model] for model in ("resnet", "vit", "mixer")}
OTHERS = ("vit", "mixer")  # than the ResNet
PLAIN, SAM = RULES = ("plain", "SAM")
ADAMW: Any = {"lr": (2e-3, 2e-2), "weight_decay": (1e-3, 0.3), "others": lambda _at: {"base": "adamw"}}
SGD: Any = {"lr": (1e-2, 0.3), "weight_decay": (1e-5, 1e-2)}
ENDS = {"resnet": SGD, "vit": ADAMW, "mixer": ADAMW}
KEPT = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
Key = tuple[str, str, int]  # model, rule, seed
Rows = Sequence[Mapping[str, Any]]
Quantity = str | Callable[[Mapping[str, Any]], Any]  # of a row


@dataclass(frozen=True)
class Networks:
    """What is trained; the scripts' configs add to it."""

    models: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "resnet": {"depth": 8, "width": 6, "norm": "batch"},
            "vit": {"dim": 16, "depth": 2, "heads": 2},
            "mixer": {"dim": 16, "depth": 2},
        }
    )
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    setting: dict[str, Any] = field(
        default_factory=lambda: {"epochs": 20, "batch_size": 32, "schedule": "cosine", "label_noise": 0.0}
    )
    search: Search = field(default_factory=lambda: Search(points=5, rounds=2, finalists=2, seeds=(100, 101)))
    size: float = 16 / 255  # of adversarial images, of the way from black to white; a digit has 17 greys
    workers: int = 2
    runs: str = "runs/vit"
    tuning: str = "runs/tuning_vit"


def variants(model: str, **changes: Any) -> dict[str, Variant]:
    """Both rules, and where the search for their settings begins; `changes` are of the training."""
    own: Any = ENDS[model]
    others = own.get("others", lambda _at: {})
    both = {**own, "others": lambda at: {**others(at), **changes}}
    return {
        PLAIN: Variant("sgd", 1, None, lambda _at: {}, **both),
        SAM: Variant("sam", 2, (0.01, 0.3), **both),
    }


def tuned(config: Networks, name: str = "", **changes: Any) -> dict[tuple[str, str], Tuned]:
    """The best point of each model and rule; `name` and `changes` where they are trained in another way than all."""
    found: dict[tuple[str, str], Tuned] = {}
    for model, settings in config.models.items():
        own = {**config.setting, "model": model, "model_settings": dict(settings)}
        folder = f"{model}-{name}" if name else model
        here = replace(config, setting=own, tuning=f"{config.tuning}/{folder}")
        found |= {(model, rule): best for rule, best in tune_at(here, variants(model, **changes)).items()}
    return found


def told(points: Mapping[tuple[str, str], Tuned]) -> dict[str, Any]:
    """What was found, for a JSON file."""
    return {" ".join(key): {"point": own.point, "at_edge": own.edges} for key, own in points.items()}


def conditions(config: Networks, points: Mapping[tuple[str, str], Tuned]) -> str:
    """What was compared, in words, and which tuned values are at an edge of those tried."""
    edges = [f"{TITLES[model]}, {rule} ({', '.join(own.edges)})" for (model, rule), own in points.items() if own.edges]
    at_edge = f" Tuned values at an edge of those tried: {'; '.join(edges)}." if edges else ""
    networks = each_sized(config.models)
    return (
        f"{networks}. Digits, {config.setting['epochs']} epochs, {len(config.seeds)} seeds; for κ batch norm has the "
        f"statistics of its 8 images.{at_edge}"
    )


def training(
    config: Networks, points: Mapping[tuple[str, str], Tuned], key: Key, name: str = "", **changes: Any
) -> ls.TrainConfig:
    """The run of one network; `name` and `changes` where it is trained in another way than all."""
    model, rule, seed = key
    own = {"model": model, "model_settings": dict(config.models[model]), **changes}
    folder = "-".join([model, rule, *([name] if name else []), str(seed)])
    return network(config, folder, variants(model)[rule], points[model, rule].point, seed, **own)


def keys(config: Networks) -> list[Key]:
    """Of all networks."""
    return list(product(config.models, RULES, config.seeds))


def base_rows(config: Networks, points: Mapping[tuple[str, str], Tuned]) -> list[dict[str, Any]]:
    """Every network, trained and measured, whichever script asks first."""
    networks = {key: training(config, points, key) for key in keys(config)}
    return rows_of(measured(networks, partial(everything, size=config.size), config.workers))


def rows_of(found: Mapping[Key, dict[str, Any]], **also: Any) -> list[dict[str, Any]]:
    """What was measured, one row a network."""
    kept = none_failed(found)
    return [{"model": model, "rule": rule, "seed": seed, **also, **own} for (model, rule, seed), own in kept.items()]


def everything(run: Path, *, size: float) -> dict[str, Any]:
    """Losses, robustness, curvature, tangent kernel, norms and activations of one network."""
    problem = ls.load_run(run)
    model, metadata = ls.load_checkpoint(run)
    config = metadata["config"]
    data = data_of(config)
    first = build(config["model"], config["model_settings"], config["seed"])
    found = {
        **withstood(run, size=size),
        "lambda_max": float(lambda_max(problem).value),
        "kappa_start": kappa(first, data.first(8)),
        "kappa": kappa(model, data.first(8)),
        "weight_norm": float(weight_norm(problem).value),
    }
    if config["model"] in ("vit", "mixer"):
        found |= by_block(problem)
    if config["model"] == "vit":
        found["attention_on_ink"] = on_ink(class_attention(model, data.test_inputs), data.test_inputs)
    return found


def kappa(model: torch.nn.Module, few: tuple[Tensor, Tensor]) -> float:
    """κ of the tangent kernel of a few images, in float64, batch norm by their own statistics."""
    problem = ls.Problem(model, F.cross_entropy, few, dtype=torch.float64, batch_norm="batch")
    return float(ntk_condition_number(problem).value)


def withstood(run: Path, *, size: float) -> dict[str, Any]:
    """Losses and accuracies, on test images under attacks of this size and under corruptions too."""
    model, metadata = ls.load_checkpoint(run)
    errors = robustness(model, data_of(metadata["config"]), size=size)
    attacked = {name: 1 - errors[f"{name}_error"] for name in ("fgsm", "pgd10", "corruption")}
    return {**accuracies(run), **{f"{name}_accuracy": own for name, own in attacked.items()}}


def accuracies(run: Path) -> dict[str, Any]:
    """Losses and accuracies."""
    content = read_json(run / "model.json")
    return {key: content[key] for key in KEPT}


def by_block(problem: ls.Problem) -> dict[str, Any]:
    """Of each block the norm of its last activation, and the share of its active neurons."""
    found = activations(problem)
    numbers = [re.match(r"blocks\.(\d+)\.", name) for name in found.names]
    norms: dict[str, float] = {}
    positive: dict[str, list[tuple[float, float]]] = {}
    for number, norm, share, count in zip(numbers, found.norm, found.active, found.entries, strict=True):
        block = str(int(number[1]) + 1) if number else ""
        norms[block] = float(norm)
        positive.setdefault(block, []).append((float(share * count), float(count)))
    shares = {block: sum(own for own, _ in each) / sum(own for _, own in each) for block, each in positive.items()}
    return {"activation_norm": norms, "active": shares}


def class_attention(model: torch.nn.Module, images: Tensor) -> Tensor:
    """Of the class token on each patch in the last block, the mean over its heads, (N, rows, columns)."""
    *_, last = attention_weights(model, images).values()
    on_patches = last[:, :, 0, 1:].mean(1)
    side = round(on_patches.shape[1] ** 0.5)
    return on_patches.unflatten(1, (side, side))


def on_ink(attention: Tensor, images: Tensor) -> float:
    """How much darker the patches that are looked at are than all patches: Σ aₚ inkₚ / (mean ink Σ aₚ), mean over
    images; 1 for attention that is the same everywhere."""
    ink = F.adaptive_avg_pool2d(images - images.amin(), (attention.shape[1], attention.shape[2]))[:, 0]
    share = attention / attention.sum((1, 2), keepdim=True)
    return float(((share * ink).sum((1, 2)) / ink.mean((1, 2))).mean())


def values(rows: Rows, model: str, rule: str, get: Quantity) -> list[Any]:
    """A quantity of a model's networks, one a seed."""
    own = [row for row in rows if (row["model"], row["rule"]) == (model, rule)]
    return [row[get] if isinstance(get, str) else get(row) for row in own]


def gain(rows: Rows, model: str, get: Quantity) -> list[float]:
    """What SAM adds to a quantity, seed by seed."""
    pairs = zip(values(rows, model, SAM, get), values(rows, model, PLAIN, get), strict=True)
    return [own - other for own, other in pairs]


def ratio(one: Sequence[float], other: Sequence[float]) -> tuple[str, tuple[float, float, float]]:
    """How many times larger, seed by seed, in words; and the interval of its logarithm."""
    found = difference(list(np.log(one)), list(np.log(other)))
    mean, low, high = np.exp(found)
    return f"{mean:.2g} times [{low:.2g}, {high:.2g}]", found


def marks(ax: Axes, columns: Sequence[Mapping[str, Sequence[float]]], scale: float = 1.0) -> None:
    """Rule to its seeds, column by column: a mark a network, a bar at their mean (geometric on a logarithmic axis)."""
    rules = list(dict.fromkeys(rule for column in columns for rule in column))
    looks = {rule: LOOKS["sgd"] if rule == PLAIN else own for rule, own in look(rules).items()}
    for at, column in enumerate(columns):
        for place, (rule, (color, marker)) in enumerate(looks.items()):
            if rule not in column:
                continue
            own = scale * np.asarray(column[rule])
            x = at + 0.24 * (place - (len(rules) - 1) / 2)
            label = rule if at == 0 else None
            ax.plot([x] * len(own), own, marker, color=color, ms=3.5, mfc="none", label=label)
            mean = np.exp(np.log(own).mean()) if ax.get_yscale() == "log" else own.mean()
            ax.hlines(mean, x - 0.1, x + 0.1, color=color, linewidth=1.4)
    ax.set_xlim(-0.5, len(columns) - 0.5)
