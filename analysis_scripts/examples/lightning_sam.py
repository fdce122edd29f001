"""SAM in a Lightning module on the embedded digits; needs the extra `lightning`.

Optimisation is manual: `optimizer.step(closure)` makes both passes, a large batch can be cut into parts inside the
closure, the loss is logged once (that of pass 1), and `max_norm` clips the step. Lightning then refuses its own
`gradient_clip_val`, which would clip the gradient of each pass, and `accumulate_grad_batches`, of which pass 2 would
see the last batch only. Automatic optimisation needs no more than `configure_optimizers`, and takes the same steps if
neither is set; what `training_step` logs is then of both passes. Either way precision="bf16-mixed" works, and
checkpoints resume to the bit from the end of an epoch (from within one if the loader can be resumed).

    python analysis_scripts/examples/lightning_sam.py
"""

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.data import digits


class Classifier(lightning.LightningModule):  # type: ignore[misc]  # untyped where lightning is not there
    """Any network; `parts` is into how many a batch is cut to save memory."""

    def __init__(self, network: nn.Module, parts: int = 2) -> None:
        super().__init__()
        self.network, self.parts = network, parts
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        base = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)
        optimizer = ls.SharpnessAware(base, ls.rules.sam(rho=0.05), model=self.network, max_norm=1.0)
        return [optimizer], [
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.estimated_stepping_batches)
        ]

    def training_step(self, batch: list[Tensor]) -> None:
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        pieces = list(zip(*(part.chunk(self.parts) for part in batch), strict=True))

        def closure() -> Tensor:
            optimizer.zero_grad()
            total = torch.zeros((), device=self.device)
            for inputs, targets in pieces:
                loss = F.cross_entropy(self.network(inputs), targets) * len(targets) / len(batch[1])
                self.manual_backward(loss)
                total += loss.detach()
            return total

        self.log("train_loss", optimizer.step(closure), prog_bar=True)
        scheduler.step()


def main(steps: int = 60, **settings: Any) -> lightning.Trainer:
    """Train a small network; `settings` are the Trainer's."""
    data = digits()
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    train = TensorDataset(data.train_inputs, data.train_targets)
    trainer = lightning.Trainer(max_steps=steps, logger=False, enable_checkpointing=False, **settings)
    trainer.fit(Classifier(network), DataLoader(train, batch_size=100, shuffle=True))
    return trainer


if __name__ == "__main__":
    main()
