"""Characters as tokens, and the trainer on them: losses and errors are those of all characters."""

from math import log

import pytest
import torch
import torch.nn.functional as F

from landscape.data import load
from landscape.study.network_record import load_run
from landscape.training import TrainConfig, load_checkpoint, read_log, train
from landscape.training.trainer.evaluation import evaluate, top_error


def test_windows_follow_each_other_and_targets_are_one_further(tmp_path):
    content = "".join(chr(97 + index % 7) for index in range(101))
    (tmp_path / "a.txt").write_text(content)
    data = load("text", str(tmp_path / "a.txt"), settings={"length": 10, "test_share": 0.2})
    inputs, targets = (torch.cat(parts) for parts in zip(*pairs(data), strict=True))
    said = ["".join(data.class_names[place] for place in part.flatten()) for part in (inputs, targets)]
    assert said == [content[:100], content[1:101]]
    assert (len(data.train_inputs), len(data.test_inputs), data.classes) == (8, 2, 7)


def pairs(data):
    return (data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"abc", {}, "must be at least 129 characters long, got 3 characters"),
        (b"\xff\xfe" * 200, {}, "must be text in UTF-8, got an error"),
        (b"a" * 300, {"length": 0}, "length must be an integer at least 1, got 0"),
        (b"a" * 300, {"test_share": 1.0}, r"test_share must be in \(0, 1\), got 1.0"),
        (b"a" * 300, {"width": 3}, "data_settings of 'text' must be among length, test_share, got width"),
    ],
)
def test_what_is_no_text_is_named(content, settings, message, tmp_path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load("text", str(tmp_path / "a.txt"), settings=settings)


def test_labels_of_a_text_have_no_noise():
    with pytest.raises(ValueError, match=r"label_noise must be 0 where an input has several labels, got 0.1"):
        load("made_text", label_noise=0.1)


def character_run(folder, **changes):
    settings = {"sentences": 120, "length": 16}
    model = {"dim": 16, "depth": 1, "heads": 2, "length": 16, "classes": load("made_text", settings=settings).classes}
    return TrainConfig(
        folder,
        **{"dataset": "made_text", "data_settings": settings, "model": "char_lm", "model_settings": model}
        | {"optimizer": "sam", "rule_settings": {"rho": 0.05}, "lr": 0.5, "weight_decay": 0.0, "batch_size": 16}
        | {"epochs": 3, "cosine": False, "progress": False}
        | changes,
    )


def test_a_character_model_learns_and_its_losses_are_a_characters(tmp_path):
    run = train(character_run(tmp_path))
    model, metadata = load_checkpoint(run)
    data = load("made_text", settings={"sentences": 120, "length": 16})
    outputs = model(data.test_inputs).detach()
    scores, y = outputs.transpose(1, 2).flatten(0, 1), data.test_targets.flatten()
    assert metadata["test_loss"] == pytest.approx(F.cross_entropy(scores, y).item(), rel=1e-5)
    assert metadata["test_accuracy"] == pytest.approx((scores.argmax(1) == y).double().mean().item())
    counts = torch.bincount(data.train_targets.flatten()).double()
    share = counts / counts.sum()
    entropy = -(share * share.log()).nansum().item()
    assert metadata["test_loss"] < entropy < log(data.classes)  # it uses what came before
    assert all(0 <= line["train_accuracy"] <= 1 for line in read_log(run))
    assert float(load_run(run).loss()) == pytest.approx(metadata["train_loss"], rel=1e-5)


def test_a_network_or_an_augmentation_that_does_not_fit_a_text_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"augmentation .* must be left out, as 'made_text' is torch.int64"):
        train(character_run(tmp_path / "a", flip=True))
    with pytest.raises(ValueError, match="objective must be 'plain' where an input has several labels, got 'saf'"):
        train(character_run(tmp_path / "c", objective="saf"))
    small = character_run(
        tmp_path / "b", model_settings={"dim": 4, "depth": 1, "heads": 2, "length": 16, "classes": 30}
    )
    with pytest.raises(ValueError, match=r"must have classes=\d+ outputs of shape \(\d+, 16\), got shape \(30, 16\)"):
        train(small)


def test_top_error_is_its_count():
    class Scores(torch.nn.Module):
        def forward(self, x):
            return x

    outputs = torch.randn(600, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(600) % 8
    ranks = (outputs > outputs.gather(1, y[:, None])).sum(1)
    for k in (1, 3, 5):
        assert top_error(Scores(), outputs, y, k) == pytest.approx((ranks >= k).double().mean().item())
    assert top_error(Scores(), outputs, y, 8) == top_error(Scores(), outputs, y, 20) == 0
    assert top_error(Scores(), outputs, y, 1) == pytest.approx(1 - evaluate(Scores(), outputs, y)[1])
    windows = outputs.view(100, 6, 8).transpose(1, 2)
    assert top_error(Scores(), windows, y.view(100, 6), 3) == pytest.approx((ranks >= 3).double().mean().item())
