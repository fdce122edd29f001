"""What a training keeps of its networks, an average or the best one, and how many images it takes at a time."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from landscape.data import Images, Lazy
from landscape.problem import Problem
from landscape.training.trainer.config import TrainConfig
from landscape.training.trainer.ranks import Ranks


class Best:
    """The network with the lowest loss on what was held out."""

    def __init__(self, model: nn.Module) -> None:
        self.loss, self.epoch = math.inf, 0
        self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def note(self, model: nn.Module, loss: float, epoch: int) -> None:
        """After an epoch."""
        if loss < self.loss:
            self.loss, self.epoch = loss, epoch
            self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def put_into(self, model: nn.Module) -> None:
        """The best weights, where there were some."""
        model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss, self.epoch, self.weights = state["loss"], state["epoch"], state["weights"]


def average_of(model: nn.Module, config: TrainConfig) -> AveragedModel | None:
    """The average of the weights that the config asks for."""
    if config.ema_decay:
        return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    return AveragedModel(model) if config.swa_from else None


def averaged(average: AveragedModel, data: Images | Lazy, batch_size: int) -> nn.Module:
    """The averaged network, its batch-norm statistics those of all training images, not augmented."""
    network: nn.Module = average.module
    problem = Problem(network, F.cross_entropy, data.batches("train", batch_size), batch_norm="recompute")
    network.load_state_dict(problem.statistics(problem.vector()), strict=False)
    return network


def smaller(size: int, config: TrainConfig, ranks: Ranks, error: torch.OutOfMemoryError) -> int:
    """Half as many images at a time, and says so; where that cannot help, the error in one line."""
    fits = config.objective == "plain" and config.optimizer != "adahessian" and ranks.size == 1
    if size == 1 or not fits:
        hint = "take a smaller batch_size" if not fits else "take a smaller network"
        raise ValueError(f"out of memory with {size} images at a time; {hint}, the same folder goes on") from error
    half = -(-size // 2)
    tqdm.write(f"out of memory with {size} images at a time: goes on with micro_batch={half}")
    return half
