"""Loss and accuracy of a classifier."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.problem.class_targets import ClassTargets
from landscape.side_effects import training_flags_kept
from landscape.training.trainer.device import place_of

CLASSES = ClassTargets(F.cross_entropy)


Pairs = Iterable[tuple[Tensor, Tensor]]  # batches of inputs and targets


def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor, batch_size: int = 512) -> tuple[float, float]:
    """Mean cross entropy and accuracy over all targets that count, in eval mode."""
    return evaluate_on(model, zip(inputs.split(batch_size), targets.split(batch_size), strict=True))


def evaluate_on(model: nn.Module, batches: Pairs) -> tuple[float, float]:
    """The same over batches, each read when its turn comes."""
    total, right, units = 0.0, 0.0, 0
    for outputs, y in predicted(model, batches):
        total += F.cross_entropy(outputs, y, reduction="sum").item()
        right += count_right(outputs, y)
        units += int(CLASSES.counted(y).sum())
    return total / units, right / units


def top_error(model: nn.Module, inputs: Tensor, targets: Tensor, k: int = 5, batch_size: int = 512) -> float:
    """Share of the targets whose class is not among the k largest outputs, in eval mode."""
    return top_error_on(model, zip(inputs.split(batch_size), targets.split(batch_size), strict=True), k)


def top_error_on(model: nn.Module, batches: Pairs, k: int = 5) -> float:
    """The same over batches."""
    right, units = 0, 0
    for outputs, y in predicted(model, batches):
        named = outputs.topk(min(k, outputs.shape[1]), dim=1).indices == y.unsqueeze(1)
        counted = CLASSES.counted(y)
        right, units = right + int((named.any(1) & counted).sum()), units + int(counted.sum())
    return 1 - right / units


def predicted(model: nn.Module, batches: Pairs) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs in eval mode and targets, batch by batch, where the model is."""
    device = place_of(model)
    for x, y in batches:
        with torch.no_grad(), training_flags_kept(model):
            outputs = model.eval()(x.to(device, non_blocking=True))
        yield outputs, y.to(device, non_blocking=True)


def count_right(outputs: Tensor, targets: Tensor) -> float:
    """Right predictions; of targets that are probabilities, their sum over the predicted classes."""
    return float(hits(outputs, targets))


def hits(outputs: Tensor, targets: Tensor) -> Tensor:
    """The same as a tensor ()."""
    if not targets.is_floating_point():
        if CLASSES.fits(outputs, targets):
            return (outputs.argmax(1) == targets).sum()  # no class is one of CLASSES.ignored
        return torch.as_tensor(CLASSES.count_hits(outputs, targets, finite=True)[0], device=outputs.device)
    return targets.gather(1, outputs.argmax(1, keepdim=True)).sum()
