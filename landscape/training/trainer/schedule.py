"""The learning rate of each step: warm-up, then a schedule, by the step; or along a cosine, an epoch at a time."""

from math import cos, pi

from landscape.training.trainer.config import TrainConfig


def learning_rate(config: TrainConfig, epoch: int, batch: int, batches: int) -> float:
    """Of step `batch` of `batches` in an epoch, both counted from 0.

    Warm-up rises linearly over W steps, lr (s + 1)/W at step s. With t in [0, 1) the share of the steps after it that
    are done: cosine lr (1 + cos πt)/2; linear lr (1 − t); step lr decay^k after k milestones; constant lr.
    """
    step, warm = epoch * batches + batch, round(config.warmup_epochs * batches)
    if step < warm:
        return config.lr * (step + 1) / warm
    if not config.schedule:
        return config.lr * (1 + cos(pi * epoch / config.epochs)) / 2 if config.cosine else config.lr
    t = (step - warm) / max(config.epochs * batches - warm, 1)
    if config.schedule == "cosine":
        return config.lr * (1 + cos(pi * t)) / 2
    if config.schedule == "linear":
        return config.lr * (1 - t)
    if config.schedule == "step":
        return config.lr * config.decay ** sum(epoch >= milestone for milestone in config.milestones)
    return config.lr
