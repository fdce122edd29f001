"""The rows of the comparisons of rules: every rule and objective, its cost, and where the search for it begins.

Costs are in gradients of a batch: a forward pass counts 1/3, a backward pass 2/3, a Hessian or Fisher product 2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import landscape as ls
from analysis_scripts._shared.many_networks import slug
from analysis_scripts._shared.random_search import Box, Point, Row, Tuned, tune


class At(NamedTuple):
    """What the settings of a rule may follow from."""

    radius: float
    lr: float
    epoch: int  # steps of one


STEPS = 10  # of an epoch: 1,200 images in batches of 128
Settings = Callable[[At], dict[str, Any]]
Ends = tuple[float, float]
LR, DECAY = (1e-3, 0.1), (1e-5, 1e-1)


@dataclass(frozen=True)
class Variant:
    """A row: what is trained, at what cost, and between which ends its search begins."""

    optimizer: str
    passes: float  # gradients a step
    radius: Ends | None  # or lambda (SAF, MESA), gamma (Entropy-SGD); None: there is none
    settings: Settings = lambda at: {"rho": at.radius}
    objective: str = "plain"
    objective_settings: Settings = lambda _at: {}
    lr: Ends = LR
    weight_decay: Ends = DECAY
    others: Settings = lambda _at: {}  # further settings of TrainConfig

    @property
    def box(self) -> Box:
        return {"lr": self.lr, "weight_decay": self.weight_decay, **({"radius": self.radius} if self.radius else {})}

    def training(self, point: Point, steps: int) -> dict[str, Any]:
        """Settings of `TrainConfig`; `steps` are those of an epoch."""
        at = At(point.get("radius", 0.0), point["lr"], steps)
        return {
            "optimizer": self.optimizer,
            "rule_settings": self.settings(at),
            "objective": self.objective,
            "objective_settings": self.objective_settings(at),
            "lr": at.lr,
            "weight_decay": point["weight_decay"],
            **self.others(at),
        }

    def row(self, setting: Mapping[str, Any], epochs: int) -> Row:
        """What is tuned: the variant in a script's setting."""
        return Row(self.box, lambda point, steps: {**setting, **self.training(point, steps), "epochs": epochs})

    def epochs(self, gradients: int) -> int:
        """Epochs that cost as much as `gradients` epochs of SGD."""
        return max(round(gradients / self.passes), 1)


RHO = (0.05, 2.0)
NOTHING: Settings = lambda _at: {}  # noqa: E731


def _rho(**fixed: Any) -> Settings:
    return lambda at: {"rho": at.radius, **fixed}


def sam_steps(n: int) -> Variant:
    """SAM with n steps of ascent."""
    return Variant("sam", n + 1, RHO, _rho(steps=n) if n > 1 else _rho())


VARIANTS: dict[str, Variant] = {
    "SGD": Variant("sgd", 1, None, NOTHING),
    "Random perturbation": Variant("random_perturbation", 2, RHO),
    "SAM": Variant("sam", 2, RHO),
    "SAM, p = 1": Variant("sam", 2, (0.2, 10.0), _rho(p=1)),
    "SAM, p = ∞": Variant("sam", 2, (0.001, 0.05), _rho(p=inf)),
    "SAM, 3 steps": sam_steps(3),
    "SAM, second order": Variant("sam_second_order", 4, RHO),
    "ASAM": Variant("asam", 2, (0.5, 20.0)),
    "ASAM, filter-wise": Variant("asam", 2, (0.1, 4.0), _rho(filterwise=True)),
    "Fisher SAM": Variant("fisher_sam", 2, RHO),
    "Fisher SAM, exact": Variant("exact_fisher_sam", 8, (0.02, 1.0), _rho(products=3)),
    "GSAM": Variant("gsam", 2, RHO),
    "GSAM, ρ follows lr": Variant(
        "gsam", 2, RHO, lambda at: {"rho": at.radius, "rho_min": at.radius / 2, "lr_max": at.lr}
    ),
    "GSAM, ASAM's e": Variant("gsam", 2, (0.5, 20.0), _rho(adaptive=True)),
    "GSAM, min (f, h)": Variant("gsam", 2, RHO, _rho(minimise="f, h")),
    "SAM, f_p + λh": Variant("gsam", 2, RHO, _rho(minimise="f_p + h")),
    # five products on 128 images every 50 steps: 10/50
    "Eigen-SAM": Variant("eigen_sam", 2.2, RHO, _rho(period=50), others=lambda _at: {"eigen_samples": 128}),
    "Reverse-SAM": Variant("reverse_sam", 2, RHO),
    "EGR": Variant("egr", 3, RHO),
    # five plain epochs of thirty: (5 + 25 · 2)/30
    "RSAM": Variant("rsam", 55 / 30, (0.02, 1.0), lambda at: {"rho": at.radius, "plain_steps": 5 * at.epoch}),
    "SAM-ON": Variant("sam_on", 2, (0.1, 4.0)),
    # gradients of 256 single images every five epochs
    "SSAM-F": Variant("ssam_f", 2.04, RHO, lambda at: {"rho": at.radius, "sparsity": 0.5, "period": 5 * at.epoch}),
    "SSAM-D": Variant("ssam_d", 2, RHO, lambda at: {"rho": at.radius, "sparsity": 0.5, "period": 5 * at.epoch}),
    "WSAM": Variant("wsam", 2, RHO),
    "WSAM, coupled": Variant("wsam", 2, RHO, _rho(decoupled=False)),
    "LookSAM": Variant("looksam", 1.1, RHO),
    # forward over all images in pass 2, backward over half of them
    "ESAM": Variant("esam", 5 / 3, RHO, objective="top_samples"),
    "Friendly-SAM": Variant("friendly_sam", 2, RHO),
    "Entropy-SGD": Variant("entropy_sgd", 5, (0.003, 0.3), lambda at: {"gamma": at.radius}, lr=(0.02, 5.0)),
    "Adversarial inputs": Variant("sgd", 2, (0.002, 0.2), NOTHING, "adversarial", lambda at: {"size": at.radius}),
    "SAM, adversarial inputs": Variant(
        "sam", 2, RHO, objective="adversarial", objective_settings=lambda _at: {"size": 0.02}
    ),
    "SAF": Variant("sgd", 1, (0.05, 5.0), NOTHING, "saf", lambda at: {"lmbda": at.radius}),
    # the paper's decay of .9995 would remember all of so short a training
    "MESA": Variant("sgd", 4 / 3, (0.05, 5.0), NOTHING, "mesa", lambda at: {"lmbda": at.radius, "decay": 0.99}),
    "AdaHessian": Variant("adahessian", 3, None, NOTHING, lr=(0.01, 0.5)),
}
assert {variant.optimizer for variant in VARIANTS.values()} == {"sgd", "adahessian", *ls.rules.RULES}


def tune_at(
    config: Any, variants: Mapping[str, Variant], epochs: Mapping[str, int] | None = None, **changes: Any
) -> dict[str, Tuned]:
    """Variant to its best point in a script's setting: what scripts ask for alike is searched once.

    Args:
        config: of the script, with setting, search, tuning (the folder) and workers.
        variants: what is tuned.
        epochs: of each variant; default: the setting's.
        changes: of the setting, such as the share of wrong labels.
    """
    setting = config.setting | changes
    length = {name: (epochs or {}).get(name, setting["epochs"]) for name in variants}
    names = {name: f"{name}, {length[name]} epochs, {100 * setting['label_noise']:g} % flips" for name in variants}
    rows = {names[name]: own.row(setting, length[name]) for name, own in variants.items()}
    found = tune(rows, Path(config.tuning), config.search, workers=config.workers)
    return {name: found[names[name]] for name in variants}


def network(config: Any, name: str, variant: Variant, point: Point, seed: int, **changes: Any) -> ls.TrainConfig:
    """The run NAME below `config.runs`, on all training images, at a tuned point."""
    own = config.setting | variant.training(point, STEPS) | {"seed": seed, "progress": False}
    return ls.TrainConfig(Path(config.runs) / slug(name), **own | changes)
