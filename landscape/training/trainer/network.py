"""The network and the data of a run, before the first step."""

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from landscape.checks import first_line, require
from landscape.data import Augmentation, Images, Lazy
from landscape.side_effects import training_flags_kept
from landscape.training.trainer.config import TrainConfig
from landscape.training.trainer.ranks import Ranks
from landscape.training.trainer.schema import BASES_OF_THEIR_OWN

Data = TypeVar("Data", bound=Images | Lazy)
HELD_OUT = 1  # beside the seed: which images are held out


def check_fit(model: nn.Module, data: Images | Lazy) -> None:
    """Raise ValueError unless the network maps the images to one output a class."""
    inputs, targets = data.first(2)
    try:
        with torch.no_grad(), training_flags_kept(model):
            shape = tuple(model.eval()(inputs).shape)
    except (RuntimeError, IndexError) as error:
        reason, kind = first_line(error), "images" if inputs.is_floating_point() else "tokens"
        raise ValueError(f"model must take {kind} of shape {tuple(inputs.shape[1:])}: {reason}") from error
    expected = (len(inputs), data.classes, *targets.shape[1:])
    wanted = "" if len(expected) == 2 else f" of shape {expected[1:]}"
    require(shape == expected, f"model must have classes={data.classes} outputs{wanted}, got shape {shape[1:]}")


def check_recipe(config: TrainConfig, data: Images | Lazy) -> None:
    """Raise ValueError if something else than images is to be augmented, or an objective needs one label an input."""
    inputs, targets = data.first(1)
    images = inputs.ndim == 4 and inputs.is_floating_point()
    plain = config.augmentation() == Augmentation()
    got = f"{inputs.dtype} of shape {tuple(inputs.shape[1:])}"
    require(images or plain, f"augmentation (crop, flip, ...) must be left out, as {config.dataset!r} is {got}")
    one = targets.ndim == 1 or config.objective == "plain"
    require(one, f"objective must be 'plain' where an input has several labels, got {config.objective!r}")


def split(data: Data, share: float, seed: int) -> tuple[Data, Any]:
    """The training images without a share of them, chosen by the seed; these and their labels, (inputs, targets).

    Of a set that is read lazily: both as parts of it.
    """
    if not share:
        return data, None
    count = data.count
    if count is None:
        raise ValueError(f"validation_share must be 0 for a stream, whose items have no places, got {share}")
    number = round(share * count)
    require(0 < number < count, f"validation_share={share} must hold out some of {count} images, and not all")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + HELD_OUT), device="cpu")
    out, kept = order[:number], order[number:].sort().values
    if isinstance(data, Lazy):
        places = data.train.places
        assert places is not None
        return replace(data, train=replace(data.train, places=places[kept])), replace(data.train, places=places[out])
    held_out = data.train_inputs[out], data.train_targets[out]
    parts = {name: getattr(data, name)[kept] for name in ("train_inputs", "train_targets", "clean_targets")}
    return replace(data, **parts), held_out


def network_of(model: nn.Module, config: TrainConfig, ranks: Ranks, count: int | None) -> nn.Module:
    """What `count` training images, or a stream, go through: the model, compiled, its gradients joined over ranks."""
    network: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
    if ranks.size == 1:
        return network
    own = BASES_OF_THEIR_OWN.get(config.optimizer)
    require(
        own is None and config.objective != "saf",
        f"one process must train with {own.__name__ if own else 'saf'}, which needs what only another one has, got "
        f"{ranks.size}",
    )
    left = (count or 0) % config.batch_size or config.batch_size
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
    joined = DistributedDataParallel(network, broadcast_buffers=False)
    # Its reducer, freed with the interpreter locked, must not be the last to let go of the group: that waits for
    # threads of gloo that may themselves wait for the lock. Attributes are freed in the order in which they were set.
    vars(joined)["group_freed_last"] = joined.process_group
    return joined
