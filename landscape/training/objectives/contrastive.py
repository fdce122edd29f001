"""Supervised contrastive loss: outputs of one class towards each other, all others away.

L = − mean_i 1/|P(i)| Σ_{p ∈ P(i)} log [exp(z_i·z_p/τ) / Σ_{a ≠ i} exp(z_i·z_a/τ)],  z the outputs on the unit sphere,
P(i) the other samples of i's class in the batch.
Source: Khosla et al. 2020, arXiv:2004.11362, equation 2.
"""

from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.checks import positive, require
from landscape.training.objectives.objective import Criterion, Objective


class SupervisedContrastive(Objective):
    """The loss of the batch in both passes; the outputs are embeddings, flattened, and no logits.

    Two views of each image, as the paper has them, are two samples with one label: torch.cat both, and the labels
    twice. A sample that is alone with its label counts in the sums of others only. The criterion is not used. The
    accuracies that the bundled trainer logs mean nothing until a classifier has been trained on the embedding.

    Args:
        criterion: as other objectives have it.
        tau: temperature; reference: .1.
    Raises:
        ValueError: if tau is not positive; at a step, if the targets are no labels (B,), as under mixup.
    """

    def __init__(self, criterion: Criterion, tau: float = 0.1) -> None:
        super().__init__(criterion)
        positive("tau", tau)
        self.tau = tau

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See `Objective`."""
        outputs = model(inputs)
        return contrast(outputs, targets, self.tau), outputs


def contrast(outputs: Tensor, labels: Tensor, tau: float = 0.1) -> Tensor:
    """The loss () of embeddings (B, ...) with labels (B,)."""
    require(
        labels.ndim == 1 and not labels.is_floating_point() and len(labels) == len(outputs),
        f"targets must be labels ({len(outputs)},), got {labels.dtype} of shape {tuple(labels.shape)}; leave mixup out",
    )
    z = F.normalize(outputs.flatten(1), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    alike = (labels[:, None] == labels).logical_and(~itself)  # P(i) along row i
    log_p = (z @ z.T / tau).masked_fill(itself, -inf).log_softmax(1)
    found = alike.sum(1)
    losses = -log_p.masked_fill(~alike, 0).sum(1) / found.clamp(min=1)
    return losses.sum() / (found > 0).sum().clamp(min=1)
