"""SharpnessAware in Lightning: the example and the modules of a user against the same steps in a plain loop."""

import sys
from itertools import chain, islice
from pathlib import Path

import pytest
import torch
from step_cases import data, network, weights
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls

lightning = pytest.importorskip("lightning")

SCRIPTS = Path(__file__).parents[2] / "analysis_scripts" / "examples"
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
    pytest.mark.filterwarnings("ignore:.*number of training batches.*smaller than the logging interval"),
]


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import lightning_sam

    yield lightning_sam
    sys.modules.pop("lightning_sam")


def loader(dtype=torch.float64):
    x, y = data(count=24)
    return DataLoader(TensorDataset(x.to(dtype), y), batch_size=6)


def fitted(module, dtype=torch.float64, **settings):
    trainer = lightning.Trainer(**(QUIET | {"max_steps": 6} | settings))
    trainer.fit(module, loader(dtype))
    return trainer


def plain_loop(model, optimizer, scheduler, cast=None):
    """The losses of pass 1."""
    losses, batches = [], loader(next(model.parameters()).dtype)
    for x, y in islice(chain(batches, batches), 6):

        def closure(x=x, y=y):
            optimizer.zero_grad()
            with torch.autocast("cpu", cast, enabled=cast is not None):
                loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss.detach()

        losses.append(float(optimizer.step(closure)))
        scheduler.step()
    return losses


def example_loop(model, **settings):
    """What the example does, by hand."""
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = ls.SharpnessAware(base, ls.rules.sam(rho=0.05), model=model, max_norm=1.0)
    return plain_loop(model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6), **settings)


@pytest.mark.parametrize("parts", [1, 3])
def test_the_example_makes_the_steps_of_a_plain_loop(parts, example):
    model, twin = network(), network()
    trainer = fitted(example.Classifier(model, parts))
    losses = example_loop(twin)
    torch.testing.assert_close(weights(model), weights(twin), rtol=1e-12, atol=1e-14)
    assert float(trainer.callback_metrics["train_loss"]) == pytest.approx(losses[-1], rel=1e-6)
    assert trainer.global_step == 6


def test_the_example_in_mixed_precision(example):
    model, twin = network().float(), network().float()
    fitted(example.Classifier(model, 1), torch.float32, precision="bf16-mixed")
    example_loop(twin, cast=torch.bfloat16)
    assert torch.equal(weights(model), weights(twin))


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_the_example_resumes_to_the_bit(example, tmp_path):
    model, twin = network(), network()
    saved = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_weights_only=False)
    epochs = {"max_epochs": 2, "max_steps": -1}
    fitted(example.Classifier(model), callbacks=[saved], enable_checkpointing=True, **epochs)
    trainer = lightning.Trainer(**QUIET, **epochs)
    trainer.fit(example.Classifier(twin), loader(), ckpt_path=tmp_path / "epoch=0.ckpt", weights_only=True)
    assert trainer.global_step == 8
    assert torch.equal(weights(model), weights(twin))


class Automatic(lightning.LightningModule):
    """As most modules are written."""

    def __init__(self, model, rule):
        super().__init__()
        self.model, self.rule, self.logged = model, rule, []

    def configure_optimizers(self):
        base = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        optimizer = ls.SharpnessAware(base, self.rule, model=self.model)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        self.logged.append(float(loss.detach()))
        return loss


def automatic_loop(model, rule, max_norm=None):
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = ls.SharpnessAware(base, rule, model=model, max_norm=max_norm)
    return plain_loop(model, optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9))


@pytest.mark.parametrize("clipped", [False, True])
def test_automatic_optimisation_makes_the_same_steps_and_passes_twice(clipped):
    """Clipping both gradients is clipping the step only where e does not ask for the length of g and d is g_adv."""
    model, twin = network(nn.BatchNorm1d(5), nn.Dropout(0.5)), network(nn.BatchNorm1d(5), nn.Dropout(0.5))
    module = Automatic(model, ls.rules.sam(0.3))
    torch.manual_seed(1)
    fitted(module, gradient_clip_val=0.3 if clipped else None)
    torch.manual_seed(1)
    losses = automatic_loop(twin, ls.rules.sam(0.3), 0.3 if clipped else None)
    tolerance = 1e-5 if clipped else 1e-12  # torch clips to max_norm / (norm + 1e-6)
    for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=1e-2 * tolerance)
    assert module.logged[::2] == pytest.approx(losses, rel=1e-6)


def test_manual_optimisation_refuses_what_would_act_on_each_pass(example):
    for setting in ({"accumulate_grad_batches": 2}, {"gradient_clip_val": 1.0}):
        with pytest.raises(
            lightning.pytorch.utilities.exceptions.MisconfigurationException, match="manual optimization"
        ):
            fitted(example.Classifier(network()), **setting)


def test_the_example_learns_the_digits(example):
    trainer = example.main(steps=30, **{key: QUIET[key] for key in ("accelerator", "enable_progress_bar")})
    assert float(trainer.callback_metrics["train_loss"]) < 1.0
