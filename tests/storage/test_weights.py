"""Weights in the forms that people have them, put into the network they are of, to the bit."""

import argparse
import copy
import json

import pytest
import torch
from cases import seeded
from safetensors.torch import save_file
from torch import nn

from landscape.storage.weights import load_weights, read_weights


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def lightning(weights):
    """As a Trainer writes it, callbacks and all."""
    loops = {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"completed": 1}}}}
    others = {"criterion.weight": torch.ones(2), "metric.total": torch.tensor(3)}
    content = {"epoch": 1, "loops": loops, "callbacks": {"ModelCheckpoint": {"best": torch.tensor(0.1)}}}
    return {**content, "state_dict": {**{f"net.{name}": value for name, value in weights.items()}, **others}}


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("w.pt", torch.save),
        ("w.pth", lambda weights, path: torch.save({"epoch": 3, "model_state_dict": weights}, path)),
        ("w.safetensors", save_file),
        ("w.ckpt", lambda weights, path: torch.save(lightning(weights), path)),
        ("w.pt", lambda weights, path: torch.save({f"module._orig_mod.{k}": v for k, v in weights.items()}, path)),
    ],
)
def test_every_form_gives_the_same_network(file, write, tmp_path):
    trained, fresh = network(1), network(2).train()
    write(trained.state_dict(), tmp_path / file)
    found = load_weights(fresh, tmp_path / file)
    assert found is fresh
    assert not fresh.training
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"])
def test_folders_of_hugging_face_whose_tied_weight_stands_once(name, tmp_path):
    trained, fresh = Tied(), Tied()
    weights = {"embed.weight": trained.embed.weight.detach().clone()}
    if name == "pytorch_model.bin":
        torch.save(weights, tmp_path / name)
    elif name == "model.safetensors":
        save_file(weights, tmp_path / name)
    else:
        save_file(weights, tmp_path / "model-00001-of-00001.safetensors")
        (tmp_path / name).write_text(json.dumps({"weight_map": {"embed.weight": "model-00001-of-00001.safetensors"}}))
    load_weights(fresh, tmp_path)
    assert torch.equal(fresh.head.weight, trained.embed.weight)
    assert fresh.head.weight is fresh.embed.weight


def test_the_precision_is_the_models(tmp_path):
    half, fresh = network(1).bfloat16(), network(2)
    torch.save(half.state_dict(), tmp_path / "half.pt")
    load_weights(fresh, tmp_path / "half.pt")
    assert torch.equal(fresh[0].weight, half[0].weight.float())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("0.bias"), r"must be those of the model: missing 0\.bias, unexpected nothing"),
        (lambda w: w.update(extra=torch.ones(1)), r"missing nothing, unexpected extra"),
        (lambda w: w.update({"0.bias": torch.ones(5)}), r"0\.bias is \(5,\), expected \(4,\)"),
        (lambda w: w.update(note="mine"), "must hold a state dict, names and tensors, got dict"),
        (lambda w: w.update(note=argparse.Namespace(lr=1)), r"tensors and plain values alone; where you trust it"),
        (
            lambda w: w.update({f"{p}.{k}": w[k] for p in ("online", "ema") for k in list(w)}) or w.pop("0.bias"),
            r"of one such network, got those under ema\., online\.; save the state_dict of one",
        ),
    ],
)
def test_other_weights_are_refused_in_one_line(change, said, tmp_path):
    weights, fresh = dict(network(1).state_dict()), network(2)
    before = copy.deepcopy(fresh.state_dict())
    change(weights)
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=said) as error:
        load_weights(fresh, tmp_path / "w.pt")
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_files_that_are_none_are_named(name, tmp_path):
    with pytest.raises(ValueError, match=rf"weights must be a run folder or a file of weights, found no file .*{name}"):
        read_weights(tmp_path / name, "weights")
    (tmp_path / name).write_bytes(torch.randint(256, (99,), generator=seeded(0)).to(torch.uint8).numpy().tobytes())
    with pytest.raises(ValueError, match=rf"{name} must ") as error:
        read_weights(tmp_path / name, "weights")
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated", "ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*number of training batches.*smaller than the logging interval")
def test_a_file_of_the_real_trainer(tmp_path):
    pl = pytest.importorskip("lightning")

    class Module(pl.LightningModule):
        def __init__(self, lr=0.1):
            super().__init__()
            self.save_hyperparameters()
            self.net = network(1)

        def training_step(self, batch, _):
            return self.net(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    trainer = pl.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False,
                         enable_model_summary=False, default_root_dir=tmp_path, enable_checkpointing=False)  # fmt: skip
    module = Module()
    trainer.fit(module, torch.utils.data.DataLoader(torch.ones(4, 3), batch_size=2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    found = load_weights(network(2), tmp_path / "last.ckpt")
    assert all(torch.equal(v, module.net.state_dict()[name]) for name, v in found.state_dict().items())
