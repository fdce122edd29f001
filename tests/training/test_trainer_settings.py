"""Schedules, bases, precision, memory, fine-tuning and stopping of the bundled trainer, against loops by hand."""

import json
import os
from dataclasses import replace
from functools import partial
from math import cos, pi
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from served import served
from step_cases import Asked
from training_cases import BATCH_NORM, config, cut_short, free_port, rows, state, weights

from landscape import vectors
from landscape.data import digits
from landscape.study import load_run
from landscape.training import TrainConfig, load_checkpoint, train
from landscape.training.trainer import loop, passes
from landscape.training.trainer.evaluation import evaluate
from landscape.training.trainer.network import network_of, split
from landscape.training.trainer.ranks import Ranks, seed_of
from landscape.training.trainer.schedule import learning_rate
from landscape.training.trainer.schema import BASES

# --- the schedule


def rates(**settings):
    run = TrainConfig(folder=".", lr=0.5, **settings)
    return [learning_rate(run, epoch, batch, 3) for epoch in range(run.epochs) for batch in range(3)]


def test_schedules_by_the_step():
    steps = range(12)
    assert rates(epochs=4, schedule="cosine") == pytest.approx([0.25 * (1 + cos(pi * s / 12)) for s in steps])
    assert rates(epochs=4, schedule="linear") == pytest.approx([0.5 * (1 - s / 12) for s in steps])
    stepped = rates(epochs=4, schedule="step", milestones=[2, 3], decay=0.2)
    assert stepped == pytest.approx([0.5] * 6 + [0.1] * 3 + [0.02] * 3)
    assert rates(epochs=4, schedule="constant") == [0.5] * 12
    assert rates(epochs=2, cosine=False) == [0.5] * 6
    assert rates(epochs=4) == pytest.approx([0.25 * (1 + cos(pi * (s // 3) / 4)) for s in steps])  # an epoch at a time


def test_warm_up_comes_before_the_schedule():
    found = rates(epochs=4, schedule="cosine", warmup_epochs=1.0)
    assert found[:4] == pytest.approx([0.5 / 3, 1.0 / 3, 0.5, 0.5])
    assert found[3:] == pytest.approx([0.25 * (1 + cos(pi * s / 9)) for s in range(9)])
    assert rates(epochs=2, schedule="constant", warmup_epochs=4 / 3) == pytest.approx([0.125, 0.25, 0.375] + [0.5] * 3)


# --- steps, against loops by hand


def by_hand(run, make, *, norm=None, ema=None):
    """One epoch in batches of 500, and the average of the weights by the way."""
    model, data = loop.build("mlp", {"hidden": [8]}, 0), digits(0.2, seed=0)
    optimizer, mean = make(model.parameters()), None
    torch.manual_seed(seed_of(0, 0))
    order = torch.randperm(len(data.train_targets)).split(500)
    for batch, index in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(run, 0, batch, len(order))
        optimizer.zero_grad()
        F.cross_entropy(model(data.train_inputs[index]), data.train_targets[index]).backward()
        if norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), norm)
        optimizer.step()
        w = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        mean = w if mean is None or ema is None else ema * mean + (1 - ema) * w
    return mean


def test_another_base_with_its_own_settings(tmp_path):
    run = config(tmp_path, epochs=1, base="adamw", base_settings={"betas": [0.8, 0.9]}, lr=0.01, schedule="linear")
    train(run)
    expected = by_hand(run, lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.9), weight_decay=5e-4))
    assert torch.equal(weights(tmp_path), expected)
    assert rows(tmp_path)[0]["lr"] == learning_rate(run, 0, 2, 3)


def test_the_direction_is_clipped(tmp_path):
    run = config(tmp_path, epochs=1, clip_norm=0.1)
    train(run)
    expected = by_hand(run, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4), norm=0.1)
    torch.testing.assert_close(weights(tmp_path), expected, rtol=1e-5, atol=1e-7)


def test_an_exponential_average_of_the_weights(tmp_path):
    run = config(tmp_path, epochs=1, ema_decay=0.7, optimizer="plain")
    train(run)
    expected = by_hand(run, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4), ema=0.7)
    torch.testing.assert_close(weights(tmp_path), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "sam"])
def test_a_batch_in_parts_is_the_batch(tmp_path, optimizer):
    for folder, size in (("whole", 0), ("parts", 130)):
        train(config(tmp_path / folder, optimizer=optimizer, micro_batch=size))
    torch.testing.assert_close(weights(tmp_path / "parts"), weights(tmp_path / "whole"), rtol=1e-4, atol=1e-5)
    assert rows(tmp_path / "parts")[-1]["train_loss"] == pytest.approx(rows(tmp_path / "whole")[-1]["train_loss"], 1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "sam"])
def test_where_memory_ends_half_the_images_go_on_and_it_says_so(tmp_path, optimizer, monkeypatch, capsys):
    settings = {"optimizer": optimizer, "model": "resnet", "model_settings": {"width": 2, "norm": "batch"}}
    train(config(tmp_path / "small", micro_batch=125, epochs=1, **settings))
    original = F.cross_entropy

    def short(outputs, *arguments, **settings):
        if outputs.requires_grad and len(outputs) > 130:
            raise torch.OutOfMemoryError("out of memory")
        return original(outputs, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(F, "cross_entropy", short)
        with pytest.raises(ValueError, match="out of memory on cpu, where no step is made again; the same folder"):
            train(config(tmp_path / "halved", epochs=1, **settings))
        patch.setattr(passes, "can_run_out", lambda _device: True)
        train(config(tmp_path / "halved", epochs=1, **settings))
    assert torch.equal(state(tmp_path / "halved"), state(tmp_path / "small"))
    assert "out of memory with 250 images at a time: goes on with micro_batch=125" in capsys.readouterr().out

    def never(*_arguments, **_settings):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(F, "cross_entropy", never)
    monkeypatch.setattr(passes, "can_run_out", lambda _device: True)
    with pytest.raises(ValueError, match="out of memory with 1 images at a time; take a smaller network"):
        train(config(tmp_path / "never", epochs=1, **settings))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "sam"])
def test_lower_precision_of_forward_passes(tmp_path, precision, optimizer):
    for folder, kind in (("full", "float32"), ("half", precision)):
        train(config(tmp_path / folder, precision=kind, optimizer=optimizer))
    full, half = weights(tmp_path / "full"), weights(tmp_path / "half")
    assert 1e-5 < float((full - half).norm() / full.norm()) < 0.1
    assert half.dtype == torch.float32


def test_channels_last_is_the_same_function(tmp_path):
    for folder, order in (("usual", False), ("last", True)):
        train(config(tmp_path / folder, epochs=1, channels_last=order, **BATCH_NORM))
    torch.testing.assert_close(state(tmp_path / "last"), state(tmp_path / "usual"), rtol=1e-3, atol=1e-4)


# --- where it begins and ends


def test_it_goes_on_from_the_weights_of_another_run(tmp_path):
    train(config(tmp_path / "first"))
    torch.save({"state_dict": load_checkpoint(tmp_path / "first")[0].state_dict()}, tmp_path / "w.pt")
    for source in ("first", "first/model.safetensors", "w.pt"):
        folder = tmp_path / f"from {Path(source).stem}"
        train(config(folder, epochs=1, lr=1e-12, weight_decay=0.0, start_from=str(tmp_path / source)))
        torch.testing.assert_close(weights(folder), weights(tmp_path / "first"), rtol=1e-6, atol=1e-8)
        assert load_checkpoint(folder)[1]["fresh"] == []


def test_a_new_head_begins_afresh_and_is_named(tmp_path):
    train(config(tmp_path / "first"))
    model = load_checkpoint(tmp_path / "first")[0]
    last = list(model.state_dict())[-2:]
    cut = {name: value[:3] if name in last else value for name, value in model.state_dict().items()}
    torch.save(cut, tmp_path / "w.pt")
    found = train(config(tmp_path / "second", start_from=str(tmp_path / "w.pt")))
    fresh = load_checkpoint(found)[1]["fresh"]
    assert fresh == last
    torch.save({"other": torch.ones(3)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"start_from must be of a network like this one, got .*w.pt with 0 of"):
        train(config(tmp_path / "third", start_from=str(tmp_path / "w.pt")))
    for content, words in ((b"", "must be a state dict that torch.load reads"), (None, "found no file")):
        (tmp_path / "w.pt").unlink()
        if content is not None:
            (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(ValueError, match=words):
            train(config(tmp_path / "fourth", start_from=str(tmp_path / "w.pt")))


def test_weights_saved_from_a_wrapped_network_are_read_and_other_objects_told(tmp_path):
    found = load_checkpoint(train(config(tmp_path / "first", epochs=1)))[0].state_dict()
    torch.save({f"module._orig_mod.{name}": value for name, value in found.items()}, tmp_path / "w.pt")
    train(config(tmp_path / "next", epochs=1, start_from=str(tmp_path / "w.pt"), lr=1e-12))
    torch.testing.assert_close(state(tmp_path / "next"), state(tmp_path / "first"), rtol=1e-6, atol=1e-6)
    torch.save({"state_dict": found, "args": partial(int)}, tmp_path / "args.pt")
    with pytest.raises(ValueError, match="must hold tensors and plain values alone"):
        train(config(tmp_path / "never", start_from=str(tmp_path / "args.pt")))


def test_it_stops_where_the_training_loss_is(tmp_path):
    folder = train(config(tmp_path, epochs=40, stop_at_loss=1.9))
    log, metadata = rows(folder), load_checkpoint(folder)[1]
    assert 1 < len(log) < 40
    assert metadata["stopped"] == "loss"
    assert metadata["epoch"] == len(log)
    assert metadata["train_loss"] <= 1.9 < log[-2]["evaluated_train_loss"]
    assert train(config(tmp_path, epochs=40, stop_at_loss=1.9)) == folder


def test_patience_ends_it_at_the_best_network_on_what_was_held_out(tmp_path):
    run = config(tmp_path, epochs=60, lr=0.3, validation_share=0.3, patience=3, cosine=False)
    train(run)
    losses = [row["validation_loss"] for row in rows(tmp_path)]
    model, metadata = load_checkpoint(tmp_path)
    data, held_out = split(digits(0.2, seed=0), 0.3, 0)
    assert len(data.train_targets) + len(held_out[1]) == len(digits().train_targets)
    assert evaluate(model, *held_out)[0] == min(losses)
    assert metadata["stopped"] == "patience"
    assert len(losses) - 3 == 1 + losses.index(min(losses))


def test_memory_that_ends_in_the_optimisers_own_step_is_not_tried_again(tmp_path, monkeypatch):
    def ends(*_arguments, **_settings):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch.optim.SGD, "step", ends)
    with pytest.raises(ValueError, match="out of memory in the optimiser's own step; take a smaller network"):
        train(config(tmp_path, optimizer="sam"))


def test_what_was_held_out_is_no_training_data_of_an_analysis(tmp_path):
    train(config(tmp_path, epochs=1, validation_share=0.3))
    problem = load_run(tmp_path)
    assert float(problem.loss()) == pytest.approx(load_checkpoint(tmp_path)[1]["train_loss"], rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"base": "adamw", "schedule": "cosine", "warmup_epochs": 1.0, "clip_norm": 0.5, "ema_decay": 0.9},
        {"validation_share": 0.2, "patience": 2, "optimizer": "sam"},
        {"precision": "fp16", "optimizer": "sam", "micro_batch": 200},
        {"stop_at_loss": 0.1, "base": "rmsprop"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, settings, monkeypatch):
    whole, part = (config(tmp_path / name, **settings) for name in ("whole", "part"))
    cut_short(part, 4, monkeypatch)
    for run in (whole, part):
        train(run)
    assert torch.equal(state(tmp_path / "part"), state(tmp_path / "whole"))
    assert rows(tmp_path / "part") == rows(tmp_path / "whole")


def test_a_run_of_a_version_with_fewer_settings_is_known(tmp_path):
    train(config(tmp_path))
    known = json.loads((tmp_path / "config.json").read_text())
    assert not {"schedule", "base", "precision", "patience", "device"} & set(known)
    train(config(tmp_path, device="cpu"))
    with pytest.raises(ValueError, match="holds a run with other base"):
        train(config(tmp_path, base="adamw"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is there")
def test_a_device_that_is_not_there_is_told():
    with pytest.raises(ValueError, match=r"device='cuda' is not on this machine; take device='auto' or 'cpu'"):
        train(TrainConfig(folder="never", device="cuda"))


def test_adahessian_differentiates_attention_twice(tmp_path):
    train(config(tmp_path, model="vit", model_settings={"depth": 1}, optimizer="adahessian", epochs=1))
    assert rows(tmp_path)[0]["train_loss"] < 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_settings": {"lr": 0.2}}, "settings must not hold lr"),
        ({"base_settings": {"maximize": True, "differentiable": True}}, "must not hold differentiable, maximize"),
        ({"optimizer": "adahessian", "rule_settings": {"weight_decay": 0.1}}, "must not hold weight_decay"),
        ({"optimizer": "adahessian", "base": "adamw"}, "adahessian is its own base"),
        ({"base": "rprop"}, "weight_decay must fit 'rprop'"),
        ({"base": "muon"}, "base must be"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(folder=".", **settings)


def test_every_base_makes_a_run(tmp_path):
    for base in BASES:
        run = config(tmp_path / base, base=base, weight_decay=0.0, lr=0.01, epochs=1, optimizer="sam")
        assert rows(train(run))[0]["train_loss"] < 4, base


# --- several processes


def in_double(patch):
    """The trainer in float64."""
    build, load = loop.build, loop.load

    def doubled(*arguments, **settings):
        data = load(*arguments, **settings)
        return replace(data, train_inputs=data.train_inputs.double(), test_inputs=data.test_inputs.double())

    patch.setattr(loop, "build", lambda *arguments: build(*arguments).double())
    patch.setattr(loop, "load", doubled)


def ranked(rank, port, folder, settings):
    """One of two processes, as torchrun starts them."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost"}
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        in_double(patch)
        train(config(folder, **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sam", "batch_size": 301},
        {"optimizer": "sgd", "base": "adamw", "clip_norm": 0.5, "ema_decay": 0.5, "batch_size": 301},
        {"optimizer": "gsam", "batch_size": 300, "m_sharpness": 150, "stop_at_loss": 1.5},
        {"optimizer": "sam", "batch_size": 301, "micro_batch": 50, "bootstrap_rounds": 1},  # 4 and 3 parts of a batch
    ],
    ids=["one e", "plain", "one e a rank", "parts and a teacher"],
)
def test_two_processes_equal_one_in_float64(tmp_path, settings, monkeypatch):
    port = free_port()
    jobs = [served().Process(target=ranked, args=(rank, port, tmp_path / "two", settings)) for rank in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
    assert [job.exitcode for job in jobs] == [0, 0]
    in_double(monkeypatch)
    train(config(tmp_path / "one", **settings))
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["epoch"] for row in one] == [row["epoch"] for row in two]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=1e-9)
    torch.testing.assert_close(state(tmp_path / "two"), state(tmp_path / "one"), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "adahessian"}, "one process must train with AdaHessian"),
        ({"objective": "saf"}, "one process must train with saf"),
        (
            {"batch_size": 33},
            "each of 2 processes must have an image of every batch, got a last batch of 1",
        ),
    ],
)
def test_what_several_processes_cannot_train_is_told(settings, words):
    with pytest.raises(ValueError, match=words):
        network_of(torch.nn.Linear(1, 1), TrainConfig(folder=".", **settings), Ranks(1, 2), count=100)


def test_dropout_differs_from_rank_to_rank_and_what_follows_does_not():
    drawn = []
    for ranks in (Ranks(0, 2), Ranks(1, 2), Ranks()):
        torch.manual_seed(5)
        with ranks.own_random(0, 1, 2):
            drawn.append(torch.rand(1 + ranks.rank)[0])  # one draws more than the other
        drawn.append(torch.rand(()))
    assert len({float(number) for number in drawn}) == 4
    assert drawn[1] == drawn[3] == drawn[4]


# --- a GPU is kept busy


@pytest.mark.parametrize(("optimizer", "count"), [("sgd", 0), ("sam", 1), ("gsam", 1)])
def test_on_a_gpu_a_step_of_the_trainer_waits_at_most_once(tmp_path, optimizer, count, monkeypatch):
    settings = {"optimizer": optimizer, "epochs": 2, **BATCH_NORM}
    train(config(tmp_path / "usual", **settings))
    monkeypatch.setattr(vectors, "SYNCHRONOUS", ())
    step, found = loop.Run._step, []

    def counted(self, index):
        with Asked() as asked:
            sums = step(self, index)
        found.append(asked.count)
        return sums

    monkeypatch.setattr(loop.Run, "_step", counted)
    train(config(tmp_path / "waiting", **settings))
    assert set(found) == {count}
    torch.testing.assert_close(state(tmp_path / "waiting"), state(tmp_path / "usual"), rtol=1e-5, atol=1e-6)
    for one, two in zip(rows(tmp_path / "waiting"), rows(tmp_path / "usual"), strict=True):
        assert one == pytest.approx(two, rel=1e-4)


def test_there_too_a_loss_that_is_not_finite_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "SYNCHRONOUS", ())
    with pytest.raises(ValueError, match=r"the loss is (nan|inf); try a smaller lr"):
        train(config(tmp_path, lr=1e30, clip_norm=0.0, epochs=2, momentum=0.0, weight_decay=0.0))
