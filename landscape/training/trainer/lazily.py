"""What a run asks of data that are read while it trains, and whether they are those that it began with."""

from collections.abc import Generator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import require
from landscape.data import Images, Lazy
from landscape.data.lazy import Part, distinguishing
from landscape.side_effects import seed_of
from landscape.training.trainer.config import TrainConfig
from landscape.training.trainer.evaluation import Pairs
from landscape.training.trainer.ranks import Ranks
from landscape.training.trainer.start import start_from

Drawn = tuple[Tensor, Tensor, Tensor, int]  # inputs, targets and places; of how many in the batch


def epoch_of(data: Images | Lazy, config: TrainConfig, ranks: Ranks, epoch: int, done: int) -> Generator[Drawn]:
    """The batches of an epoch after the first `done`.

    Whole batches of what is in memory, in an order drawn here, now; of what is read lazily this process's share.
    """
    if data.count is None:
        return _stream(data.train, config, ranks, epoch, done)
    order = torch.randperm(data.count, device="cpu").split(config.batch_size)[done:]
    if isinstance(data, Lazy):
        own = [ranks.share(index) for index in order]
        read = data.train.read(own, seed_of(config.seed, epoch))
        return ((x, y, place, len(index)) for index, (x, y, place) in zip(order, read, strict=True))
    x, y = data.train_inputs, data.train_targets
    return ((x[index.to(x.device)], y[index.to(x.device)], index, len(index)) for index in order)


def _stream(train: Part, config: TrainConfig, ranks: Ranks, epoch: int, done: int) -> Generator[Drawn]:
    """Every process reads the whole stream, and has its share of each batch."""
    read = train.stream(config.batch_size, seed_of(config.seed, epoch), epoch, max(done - 1, 0))
    if done:
        require(
            next(read, None) is not None,
            f"dataset {train.sample.name} must give the items that it gave before the run was interrupted, but ends "
            f"before batch {done} of epoch {epoch + 1}; put them back, or choose another folder",
        )
    first = next(read, None)
    require(done > 0 or first is not None, f"dataset {train.sample.name} must give items in every epoch, got none")
    for batch in chain([] if first is None else [first], read):
        count = len(batch[1])
        require(
            count >= ranks.size,
            f"each of {ranks.size} processes must have an item of every batch of a stream, got a batch of {count}; "
            "take fewer processes or another batch_size",
        )
        x, y, place = (ranks.share(part) for part in batch)
        yield x, y, place, count


def check_lazy_data(data: Images | Lazy, config: TrainConfig, ranks: Ranks, device: torch.device) -> None:
    """Raise ValueError where a setting and a set that is read lazily exclude each other, or its items change."""
    stream = data.count is None
    require(
        stream or not config.steps_per_epoch, "steps_per_epoch belongs to streams; leave it out for a set with a length"
    )
    if isinstance(data, Images):
        return
    by_step = config.schedule in ("cosine", "linear") or config.warmup_epochs > 0
    require(
        not (stream and by_step and not config.steps_per_epoch),
        f"steps_per_epoch must be given for a stream with schedule={config.schedule!r} and warmup_epochs="
        f"{config.warmup_epochs}, which go by the number of steps",
    )
    require(
        not (stream and config.objective == "saf"), "objective 'saf' must know samples again: take another for a stream"
    )
    for part in (data.train, data.test):
        one, other = (distinguishing(part.shown(), part.count) for _ in range(2))
        require(
            one == other,
            f"dataset {part.sample.name} must give the same items when it is read again, got others; random ones must "
            "draw from the global generators of torch, NumPy or Python, which are seeded for each item",
        )
    here = torch.tensor(distinguishing(data.shown(), data.count), device=device)
    differ = not torch.equal(here, torch.tensor(ranks.tell(here.tolist()), device=device))
    same = float(ranks.summed(torch.tensor(float(differ), device=device))) == 0
    require(same, "dataset must give all processes the same items: the trainer divides them itself")


def held_out_batches(held_out: Any, size: int) -> Pairs | None:
    """What `network.split` holds out, in batches, read lazily where the training set is; None for nothing."""
    if held_out is None:
        return None
    if isinstance(held_out, Part):
        return held_out.batches(size)
    return list(zip(*(part.split(512) for part in held_out), strict=True))


def begun(
    data: Images | Lazy, model: nn.Module, config: TrainConfig, state: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Begin from the weights that the config names, or, where there is a state to go on from, with what it began with.

    Returns:
        For the state: names of the model's tensors that `start_from` did not give, what tells the data from others,
        and the workers of a stream.
    Raises:
        ValueError: if the data are others than those that the run began with.
    """
    kept = (state or {}).get("beginning")  # states of earlier versions have none
    fresh = kept["fresh"] if kept else start_from(model, config.start_from) if config.start_from else []
    workers = config.workers if data.count is None else 0
    now = {"fresh": fresh, "data": distinguishing(data.shown(), data.count), "workers": workers}
    if kept:
        _check_same(kept, now)
    return now


def _check_same(kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError unless a run goes on with the data that it began with."""
    require(
        kept["workers"] == now["workers"],
        f"workers must be {kept['workers']}, with which the run began: the order of a stream is theirs; "
        f"got {now['workers']}",
    )
    one, other = (torch.tensor(found["data"], dtype=torch.float64, device="cpu") for found in (kept, now))
    same = one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=2e-3, equal_nan=True)
    require(
        same,
        "dataset must be the one that the run began with, got other items; put it back and the run goes on, or choose "
        "another folder",
    )
