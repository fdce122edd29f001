"""Test loss and accuracy on labels as noisy as those trained on, in expectation over the noise.

Training labels are moved to another class with probability p. A gap to clean test labels counts what the noise costs on
the one side only; were test labels moved alike, to each of the C − 1 other classes with probability p / (C − 1),
L̃ = (1 − p) L + p / (C − 1) Σ_{c ≠ y} −log p_c, averaged over test images, and Ã = (1 − p) A + p (1 − A) / (C − 1).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.training.trainer.evaluation import predicted


def noisy_outcome(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], noise: float) -> dict[str, float]:
    """`noisy_test_loss` and `noisy_test_accuracy`, in eval mode.

    Args:
        model: the network; outputs (B, C), C at least 2.
        batches: of inputs and clean classes (B,).
        noise: p, in [0, 1].
    """
    loss, accuracy, count = 0.0, 0.0, 0
    for outputs, classes in predicted(model, batches):
        costs = -F.log_softmax(outputs, dim=1).double()  # (B, C)
        named = F.one_hot(outputs.argmax(1), outputs.shape[1]).double()
        loss += float(_moved(costs, classes, noise).sum())
        accuracy += float(_moved(named, classes, noise).sum())
        count += len(classes)
    return {"noisy_test_loss": loss / count, "noisy_test_accuracy": accuracy / count}


def _moved(values: Tensor, classes: Tensor, noise: float) -> Tensor:
    """Mean of values (B, C) over where a label may be, (B,)."""
    share = torch.full_like(values, noise / (values.shape[1] - 1))
    return (values * share.scatter(1, classes[:, None], 1 - noise)).sum(1)
