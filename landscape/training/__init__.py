"""The bundled trainer: rules, the step around them, the loop, and checkpoints."""

from landscape.training import objectives, rules
from landscape.training.adahessian import AdaHessian
from landscape.training.checkpoint import load_checkpoint, save_checkpoint
from landscape.training.config import TrainConfig
from landscape.training.lookahead import lookahead
from landscape.training.loop import train
from landscape.training.run_folder import read_log
from landscape.training.step import SharpnessAware
from landscape.training.tracking import Tracker

__all__ = [
    "AdaHessian",
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
