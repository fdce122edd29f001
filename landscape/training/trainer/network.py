"""The network and the data of a run, before the first step."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from landscape.checks import first_line, require
from landscape.data import Images
from landscape.side_effects import training_flags_kept
from landscape.training.trainer.config import TrainConfig
from landscape.training.trainer.ranks import Ranks

HELD_OUT = 1  # beside the seed: which images are held out


def check_fit(model: nn.Module, data: Images) -> None:
    """Raise ValueError unless the network maps the images to one output a class."""
    inputs = data.train_inputs[:2]
    try:
        with torch.no_grad(), training_flags_kept(model):
            shape = tuple(model.eval()(inputs).shape)
    except RuntimeError as error:
        reason = first_line(error)
        raise ValueError(f"model must take images of shape {tuple(inputs.shape[1:])}: {reason}") from error
    require(shape == (2, data.classes), f"model must have classes={data.classes} outputs, got shape {shape[1:]}")


def split(data: Images, share: float, seed: int) -> tuple[Images, tuple[Tensor, Tensor] | None]:
    """The training images without a share of them, chosen by the seed; these, and their labels."""
    if not share:
        return data, None
    count = len(data.train_targets)
    number = round(share * count)
    require(0 < number < count, f"validation_share={share} must hold out some of {count} images, and not all")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + HELD_OUT), device="cpu")
    out, kept = order[:number], order[number:].sort().values
    held_out = data.train_inputs[out], data.train_targets[out]
    parts = {name: getattr(data, name)[kept] for name in ("train_inputs", "train_targets", "clean_targets")}
    return replace(data, **parts), held_out


def network_of(model: nn.Module, config: TrainConfig, ranks: Ranks, count: int) -> nn.Module:
    """What `count` training images go through: the model, compiled, its gradients joined over the ranks."""
    network: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
    if ranks.size == 1:
        return network
    require(
        config.optimizer != "adahessian" and config.objective != "saf",
        f"one process must train with {'AdaHessian' if config.optimizer == 'adahessian' else 'saf'}, which needs what "
        f"only another one has, got {ranks.size}",
    )
    left = count % config.batch_size or config.batch_size
    require(
        left >= ranks.size,
        f"each of {ranks.size} processes must have an image of every batch, got a last batch of {left}; take another "
        f"batch_size than {config.batch_size}",
    )
    require(
        config.m_sharpness * ranks.size in (0, config.batch_size),
        f"m_sharpness over {ranks.size} processes must be one part each, batch_size={config.batch_size} over their "
        f"number, got {config.m_sharpness}",
    )
    return DistributedDataParallel(network, broadcast_buffers=False)
