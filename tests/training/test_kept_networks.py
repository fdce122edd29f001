"""What a run keeps besides the last weights: early checkpoints, and averages of weights along the way."""

import pytest
import torch
import torch.nn.functional as F
from training_cases import BATCH_NORM, config, state, weights

from landscape.data import digits
from landscape.study.network_record import load_run
from landscape.training import load_checkpoint, train
from landscape.training.trainer import loop
from landscape.training.trainer.ranks import seed_of


def test_an_early_checkpoint_is_the_network_after_that_epoch(tmp_path):
    settings = BATCH_NORM | {"cosine": False, "batch_size": 600}
    folder = train(config(tmp_path / "run", checkpoint_epochs=[2, 3], **settings))
    shorter = train(config(tmp_path / "shorter", epochs=2, **settings))
    assert torch.equal(state(folder / "epoch-2"), state(shorter))
    assert torch.equal(state(folder / "epoch-3"), state(folder))
    metadata = load_checkpoint(folder / "epoch-2")[1]
    assert (metadata["epoch"], metadata["teacher"]) == (2, None)
    assert metadata["test_loss"] == load_checkpoint(shorter)[1]["test_loss"]
    assert float(load_run(folder / "epoch-2").loss()) == pytest.approx(metadata["train_loss"], rel=1e-5)
    assert not (folder / "epoch-1").exists()


def test_the_averaged_network_is_the_mean_of_the_epochs_with_statistics_of_its_own(tmp_path):
    settings = BATCH_NORM | {"batch_size": 1200, "crop": 1}
    folder = train(config(tmp_path, epochs=4, swa_from=2, checkpoint_epochs=[2, 3, 4], **settings))
    mean = sum(weights(folder / f"epoch-{n}").double() for n in (2, 3, 4)) / 3
    torch.testing.assert_close(weights(folder).double(), mean, rtol=1e-5, atol=1e-7)
    model, metadata = load_checkpoint(folder)
    images = digits(0.2, seed=0).train_inputs  # one batch, not augmented
    hidden = model.stem[0](images)
    torch.testing.assert_close(model.stem[1].running_mean, hidden.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.stem[1].running_var, hidden.var((0, 2, 3)), rtol=1e-4, atol=1e-6)
    assert float(load_run(folder).loss()) == pytest.approx(metadata["train_loss"], rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adahessian"])
def test_lookahead_goes_back_every_k_steps(optimizer, tmp_path):
    """Of three full steps from w0 with k = 2, alpha = .3: w2 becomes w0 + .3 (w2 − w0). Momentum goes on."""
    settings = {"batch_size": 1200, "epochs": 3, "cosine": False, "optimizer": optimizer}
    found = train(config(tmp_path, lookahead_steps=2, lookahead_alpha=0.3, **settings))
    model, data = loop.build("mlp", {"hidden": [8]}, 0), digits(0.2, seed=0)
    base = config(tmp_path, **settings).make_base(model.parameters())
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    for step in range(3):
        torch.manual_seed(seed_of(0, step))
        order = torch.randperm(1200)
        base.zero_grad()
        loss = F.cross_entropy(model(data.train_inputs[order]), data.train_targets[order])
        getattr(base, "backward", torch.Tensor.backward)(loss)
        base.step()
        if step == 1:
            w = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
            torch.nn.utils.vector_to_parameters(start + 0.3 * (w - start), model.parameters())
    expected = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    torch.testing.assert_close(weights(found), expected, rtol=1e-4, atol=1e-6)
