"""Settings of a training that must fit one another."""

from typing import Any

from landscape.checks import require
from landscape.training.trainer.schema import OF_NO_BASE


def check_related(config: Any) -> None:
    """Raises ValueError where two settings of a `TrainConfig` exclude each other."""
    require(
        not config.milestones or config.schedule == "step",
        f"milestones need schedule='step', got {config.schedule!r}",
    )
    require(
        config.warmup_epochs < config.epochs,
        f"warmup_epochs must be below epochs={config.epochs}, got {config.warmup_epochs}",
    )
    require(not config.patience or config.validation_share > 0, "patience needs a validation_share above 0, got 0")
    require(
        sum((config.swa_from > 0, config.ema_decay > 0, config.patience > 0)) <= 1,
        "the run's network must be one: take one of swa_from, ema_decay and patience",
    )
    own = ", ".join(sorted(OF_NO_BASE & (config.base_settings | config.rule_settings).keys()))
    require(not own, f"settings must not hold {own}: lr and weight_decay are fields, and the loss goes down")
    require(
        config.optimizer != "adahessian" or (config.base == "sgd" and not config.base_settings),
        f"adahessian is its own base, with settings in rule_settings, got base={config.base!r} and base_settings",
    )
    require(
        config.optimizer != "adahessian" or not (config.clip_norm or config.precision == "fp16"),
        "adahessian takes no clip_norm and no precision='fp16': its step needs derivatives of the gradient",
    )
    require(
        not config.micro_batch or (config.objective == "plain" and config.optimizer != "adahessian"),
        f"micro_batch needs the plain objective and no AdaHessian, got {config.objective!r} and {config.optimizer!r}",
    )
