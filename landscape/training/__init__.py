"""The bundled trainer: rules, the step around them, the loop, and checkpoints."""

from typing import TYPE_CHECKING

from landscape.later import later
from landscape.training import objectives, rules
from landscape.training.optimizers.adahessian import AdaHessian
from landscape.training.optimizers.lookahead import lookahead
from landscape.training.optimizers.natural_gradient import NaturalGradient
from landscape.training.sharpness_aware.step import SharpnessAware
from landscape.training.tracker import Tracker

if TYPE_CHECKING:
    from landscape.training.trainer.checkpoint import load_checkpoint, save_checkpoint
    from landscape.training.trainer.config import TrainConfig
    from landscape.training.trainer.loop import train
    from landscape.training.trainer.run_folder import read_log
else:  # they load pydantic and all networks
    __getattr__, __dir__ = later(
        __name__,
        {
            "TrainConfig": "trainer.config",
            "load_checkpoint": "trainer.checkpoint",
            "read_log": "trainer.run_folder",
            "save_checkpoint": "trainer.checkpoint",
            "train": "trainer.loop",
        },
    )

__all__ = [
    "AdaHessian",
    "NaturalGradient",
    "SharpnessAware",
    "Tracker",
    "TrainConfig",
    "load_checkpoint",
    "lookahead",
    "objectives",
    "read_log",
    "rules",
    "save_checkpoint",
    "train",
]
