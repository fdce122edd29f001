"""Loss and accuracy of a classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.problem.class_targets import ClassTargets
from landscape.side_effects import training_flags_kept
from landscape.training.trainer.device import place_of

CLASSES = ClassTargets(F.cross_entropy)


def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor, batch_size: int = 512) -> tuple[float, float]:
    """Mean cross entropy and accuracy over all targets that count, in eval mode."""
    total, right = 0.0, 0.0
    for outputs, labels in zip(predict(model, inputs, batch_size), targets.split(batch_size), strict=True):
        y = labels.to(outputs.device)
        total += F.cross_entropy(outputs, y, reduction="sum").item()
        right += count_right(outputs, y)
    units = int(CLASSES.counted(targets).sum())
    return total / units, right / units


def top_error(model: nn.Module, inputs: Tensor, targets: Tensor, k: int = 5, batch_size: int = 512) -> float:
    """Share of the targets whose class is not among the k largest outputs, in eval mode."""
    right = 0
    for outputs, y in zip(predict(model, inputs, batch_size), targets.split(batch_size), strict=True):
        named = outputs.topk(min(k, outputs.shape[1]), dim=1).indices == y.unsqueeze(1)
        right += int((named.any(1) & CLASSES.counted(y)).sum())
    return 1 - right / int(CLASSES.counted(targets).sum())


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor, batch_size: int = 512) -> list[Tensor]:
    """The outputs in eval mode, batch by batch."""
    with training_flags_kept(model):
        model.eval()
        device = place_of(model)
        return [model(x.to(device)) for x in inputs.split(batch_size)]


def count_right(outputs: Tensor, targets: Tensor) -> float:
    """Right predictions; of targets that are probabilities, their sum over the predicted classes."""
    return float(hits(outputs, targets))


def hits(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same as a tensor ()."""
    if not targets.is_floating_point():
        return torch.as_tensor(CLASSES.count_hits(outputs, targets, finite=True)[0], device=outputs.device)
    return targets.gather(1, outputs.argmax(1, keepdim=True)).sum()
