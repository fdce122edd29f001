"""Settings of a training that must fit one another."""

from typing import Any

from landscape.checks import require
from landscape.training.rules import RULES
from landscape.training.trainer.schema import BASES_OF_THEIR_OWN, NEEDS_A_RULE, OF_NO_BASE, PLAIN


def check_related(config: Any) -> None:
    """Raises ValueError where two settings of a `TrainConfig` exclude each other."""
    name, objective = config.optimizer, config.objective
    require(
        name not in PLAIN or not config.rule_settings,
        f"rule_settings must be empty for {name!r}, got {config.rule_settings}",
    )
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
        not config.micro_batch or config.objective == "plain",
        f"micro_batch needs the plain objective, got {config.objective!r}",
    )
    if name in BASES_OF_THEIR_OWN:
        _check_own(config)
    require(
        not config.m_sharpness or (name in RULES and objective == "plain"),
        f"m_sharpness needs a rule and the plain objective, got {name!r} and {objective!r}",
    )
    require(
        objective not in NEEDS_A_RULE.get(name, []),
        f"objective {objective!r} needs a rule with a second pass, not {name!r}; take 'sam'",
    )


def _check_own(config: Any) -> None:
    """What optimisers that need more of the loss than its gradient cannot have."""
    name, natural = config.optimizer, config.optimizer == "natural_gradient"
    require(
        config.base == "sgd" and not config.base_settings,
        f"{name} is its own base, with settings in rule_settings, got base={config.base!r} and base_settings",
    )
    require(
        not (config.clip_norm or config.precision == "fp16"),
        f"{name} takes no clip_norm and no precision='fp16': its step needs derivatives of the gradient",
    )
    require(natural or not config.micro_batch, "micro_batch needs another optimizer than adahessian; take batch_size")
    plain = config.objective == "plain" and config.precision == "float32" and not config.compile
    require(
        not natural or (plain and config.weight_decay == 0),
        "natural_gradient takes the plain objective, precision='float32', weight_decay=0 and no compile, got "
        f"{config.objective!r}, {config.precision!r}, {config.weight_decay} and {config.compile}",
    )
