"""A run that was interrupted ends as one that was not, bit for bit."""

import pytest
import torch
from training_cases import BATCH_NORM, config, cut_short, rows, state, weights

from landscape.training import load_checkpoint, rules, train
from landscape.training.trainer import loop

RULES = {
    "sgd": {},
    "sam": {"rho": 0.1},
    "asam": {"rho": 0.5},
    "fisher_sam": {"rho": 0.1},
    "gsam": {"rho": 0.1},
    "eigen_sam": {"rho": 0.1, "period": 4},
}


@pytest.mark.parametrize("optimizer", RULES)
@pytest.mark.parametrize("killed_in", ["step", "log", "checkpoint"])
def test_an_interrupted_run_ends_with_the_same_weights(optimizer, killed_in, tmp_path, monkeypatch):
    settings = {"optimizer": optimizer, "rule_settings": RULES[optimizer]}
    whole = train(config(tmp_path / "whole", **settings))
    interrupted = config(tmp_path / "interrupted", **settings)
    if killed_in == "step":
        cut_short(interrupted, 7, monkeypatch)
    else:
        dies_while_saving(interrupted, killed_in, monkeypatch)
    train(interrupted)
    assert torch.equal(weights(tmp_path / "interrupted"), weights(whole))
    assert [line["epoch"] for line in rows(whole)] == [1, 2, 3]
    assert rows(tmp_path / "interrupted") == rows(whole)


def dies_while_saving(interrupted, killed_in, monkeypatch):
    """In the third epoch, after the log's line and before the state is replaced; or at the very end."""
    name, calls = {"log": "save_progress", "checkpoint": "save_checkpoint"}[killed_in], []
    original = getattr(loop, name)

    def dies(*arguments):
        calls.append(1)
        if killed_in == "checkpoint" or len(calls) == 3:
            if killed_in == "log":
                with (interrupted.folder / "log.jsonl").open("a") as log:
                    log.write('{"epoch": 3, "half a li')
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, name, dies)
        patch.setattr(loop, "EPOCH_SECONDS", -1.0)  # every epoch is saved
        with pytest.raises(KeyboardInterrupt):
            train(interrupted)


OTHERS = {name: {} for name in ("adahessian", *rules.RULES) if name not in RULES} | {
    "sam": {"steps": 2},
    "gsam": {"rho_min": 0.01, "lr_max": 0.05},
    "ssam_f": {"period": 2},
    "ssam_d": {"period": 2},
    "looksam": {"period": 2},
    "rsam": {"plain_steps": 2},
}


@pytest.mark.parametrize("optimizer", OTHERS)
def test_every_rule_goes_on_to_the_same_weights(optimizer, tmp_path, monkeypatch):
    settings = {"optimizer": optimizer, "rule_settings": OTHERS[optimizer], "epochs": 2, "eigen_samples": 20}
    if optimizer == "sam_on":
        settings |= {"model": "resnet", "model_settings": {"width": 2, "norm": "group"}}
    goes_on_to_the_same_weights(settings, 4, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("objective", "chosen"),
    [("saf", {"start": 1, "lag": 1}), ("mesa", {"start": 0}), ("top_samples", {}), ("adversarial", {"size": 0.1})],
)
def test_every_objective_changes_the_weights_and_goes_on_to_the_same_ones(objective, chosen, tmp_path, monkeypatch):
    settings = {"optimizer": "esam", "objective": objective, "objective_settings": chosen}
    found = goes_on_to_the_same_weights(settings, 5, tmp_path, monkeypatch)
    plain = train(config(tmp_path / "plain", optimizer="esam"))
    assert not torch.equal(found, weights(plain))


def test_dropout_and_augmentation_go_on_in_the_middle_of_an_epoch(tmp_path, monkeypatch):
    wide = {"model": "wrn", "model_settings": {"depth": 10, "widen": 1, "dropout": 0.3}, "batch_size": 300}
    settings = wide | {"epochs": 1, "crop": 1, "flip": True, "cutout": 3, "mixup": 0.4, "optimizer": "sam"}
    goes_on_to_the_same_weights(settings, 2, tmp_path, monkeypatch)


def goes_on_to_the_same_weights(settings, steps, tmp_path, monkeypatch):
    whole, cut = train(config(tmp_path / "whole", **settings)), config(tmp_path / "cut", **settings)
    cut_short(cut, steps, monkeypatch)
    train(cut)
    assert torch.equal(state(tmp_path / "cut"), state(whole))
    assert rows(tmp_path / "cut") == rows(whole)
    return weights(whole)


def test_the_work_of_an_epoch_is_not_done_twice(tmp_path, monkeypatch):
    run, seen, original = config(tmp_path, epochs=1, batch_size=100), [], loop.Run._step
    cut_short(run, 7, monkeypatch)
    monkeypatch.setattr(loop.Run, "_step", lambda self, index: seen.append(index) or original(self, index))
    train(run)
    assert len(seen) == 12 - 7


def test_batch_norm_statistics_are_resumed(tmp_path, monkeypatch):
    settings = BATCH_NORM | {"optimizer": "sam", "epochs": 2, "batch_size": 600}
    goes_on_to_the_same_weights(settings, 3, tmp_path, monkeypatch)
    whole = load_checkpoint(tmp_path / "whole")[0].state_dict()
    assert int(whole["stem.1.num_batches_tracked"]) == 4  # two steps an epoch: pass 1 only


def test_averages_of_weights_are_resumed(tmp_path, monkeypatch):
    settings = BATCH_NORM | {"optimizer": "sam", "batch_size": 600, "swa_from": 1, "lookahead_steps": 2}
    goes_on_to_the_same_weights(settings, 5, tmp_path, monkeypatch)


def test_epochs_of_less_than_a_second_are_saved_together_and_the_last_one_always(tmp_path, monkeypatch):
    saved, original = [], loop.save_progress
    monkeypatch.setattr(
        loop, "save_progress", lambda folder, at, *rest: saved.append(at.epoch) or original(folder, at, *rest)
    )
    monkeypatch.setattr(loop, "EPOCH_SECONDS", 1e9)
    quick = train(config(tmp_path / "quick"))
    assert saved == [3]
    monkeypatch.setattr(loop, "EPOCH_SECONDS", -1.0)
    slow = train(config(tmp_path / "slow"))
    assert saved == [3, 1, 2, 3]
    assert torch.equal(weights(quick), weights(slow))
    assert rows(quick) == rows(slow)
