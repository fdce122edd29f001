"""Data that are read while the network trains: the same run as from memory, whoever reads them and when."""

import os
import shutil
from pathlib import Path
from threading import get_native_id
from weakref import WeakSet

import pytest
import torch
from lazy_cases import SCRIPT, lazy
from served import all_ended, killed, served
from training_cases import BATCH_NORM, config, cut_short, free_port, rows, state, weights

from landscape.data import load
from landscape.data.workers import Sample
from landscape.study.network_record import load_run, splits
from landscape.study.robustness import run_robustness
from landscape.training import load_checkpoint, train
from landscape.training.trainer import loop
from landscape.training.trainer.device import placed

# every part of a run that reads its training set, in batches that evaluation from memory has too
EVERY = {
    "optimizer": "eigen_sam",
    "rule_settings": {"rho": 0.1, "period": 2},
    "eigen_samples": 20,
    "batch_size": 512,
    "crop": 1,
    "flip": True,
    "mixup": 0.4,
    "validation_share": 0.1,
    "stop_at_loss": 1e-9,
    "ema_decay": 0.5,
    "diagnostics_every": 3,
    "diagnostics_samples": 20,
    "label_noise": 0.3,
    **BATCH_NORM,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lazy")


@pytest.mark.parametrize("workers", [0, 2])
def test_it_is_the_run_from_memory(workers: int, folder: Path) -> None:
    data = lazy(folder) | EVERY
    whole = train(config(folder / "memory", **data | {"lazy": False}))
    found = train(config(folder / f"lazy-{workers}", **data, workers=workers))
    assert torch.equal(state(found), state(whole))
    assert rows(found) == rows(whole)
    assert rows(found, "diagnostics.jsonl") == rows(whole, "diagnostics.jsonl")


@pytest.mark.parametrize(
    "settings", [{"objective": "saf", "objective_settings": {"start": 1, "lag": 1}}, {"swa_from": 1}]
)
def test_saf_finds_its_samples_again_and_an_average_its_statistics(
    settings: dict, folder: Path, tmp_path: Path
) -> None:
    data = lazy(folder) | {"batch_size": 512} | settings | BATCH_NORM
    one, other = (train(config(tmp_path / str(lazily), **data | {"lazy": lazily})) for lazily in (True, False))
    assert torch.equal(state(one), state(other))
    assert rows(one) == rows(other)


def test_random_items_follow_from_seed_epoch_and_place(tmp_path: Path) -> None:
    data = lazy(tmp_path, noise=0.5)
    found = [weights(train(config(tmp_path / str(workers), **data, workers=workers))) for workers in (0, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    other = train(config(tmp_path / "other", **data | {"data_settings": {}}))
    assert not torch.equal(weights(other), found[0])


@pytest.mark.parametrize(
    ("function", "settings"), [("sets", {"noise": 0.5}), ("stream", {"shuffled": True, "divided": True})]
)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [2, 5])
def test_it_goes_on_bit_for_bit(function, settings, workers, steps, folder, tmp_path, monkeypatch) -> None:
    data = lazy(folder, function, **settings) | {"workers": workers, "epochs": 2, "crop": 1, "optimizer": "sam"}
    key = folder / f"whole-{function}-{workers}"
    train(config(key, **data))  # finished by the other test
    cut = config(tmp_path / "cut", **data)
    cut_short(cut, steps, monkeypatch)
    train(cut)
    assert torch.equal(weights(tmp_path / "cut"), weights(key))
    assert rows(tmp_path / "cut") == rows(key)


def run_until_killed(folder: str, seconds: float) -> None:
    loop.SAVE_SECONDS = seconds
    original = loop.Run._step

    def counted(self, drawn):
        with (Path(folder) / "steps").open("ab") as steps:
            steps.write(b".")
        return original(self, drawn)

    loop.Run._step = counted
    train(config(Path(folder) / "run", **lazy(Path(folder), noise=0.5), workers=2, batch_size=100))


def test_a_killed_training_leaves_no_worker_and_goes_on(tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    session = killed(run_until_killed, str(tmp_path), -1.0, moment=lambda: steps.exists() and steps.stat().st_size > 8)
    assert all_ended([session], limit=30)  # torch's workers look for their parent every 5 s
    for place in ("run", "whole"):
        train(config(tmp_path / place, **lazy(tmp_path, noise=0.5), workers=2, batch_size=100))
    assert torch.equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))


# --- streams


def test_a_stream_is_the_set_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"epochs": 2, "batch_size": 512, "crop": 1}
    found = train(config(tmp_path / "stream", **lazy(tmp_path, "stream"), **data))
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
    expected = train(config(tmp_path / "memory", **lazy(tmp_path) | {"lazy": False}, **data))
    assert torch.equal(weights(found), weights(expected))
    assert rows(found) == rows(expected)


def test_an_epoch_ends_with_the_stream_or_before(tmp_path: Path) -> None:
    shorter = train(config(tmp_path / "shorter", **lazy(tmp_path, "ending", e1=700)))
    assert len(rows(shorter)) == 3
    data = lazy(tmp_path, "stream") | {"schedule": "linear", "batch_size": 100}
    assert [row["lr"] for row in rows(train(config(tmp_path / "few", **data, steps_per_epoch=4)))] == pytest.approx(
        [0.05 * (1 - step / 12) for step in (3, 7, 11)]
    )
    with pytest.raises(ValueError, match=r"^steps_per_epoch must be given for a stream with schedule='linear'"):
        train(config(tmp_path / "unknown", **data))


def test_workers_divide_a_stream_and_miss_nothing(tmp_path: Path) -> None:
    settings = {"lr": 1e-30, "epochs": 1, "batch_size": 100}
    one, two = (train(config(tmp_path / str(n), **lazy(tmp_path, "stream"), **settings, workers=n)) for n in (0, 2))
    assert rows(one)[0] == pytest.approx(rows(two)[0], rel=1e-6)


# --- what is read of the run


@pytest.mark.parametrize("function", ["sets", "stream"])
def test_the_run_is_analysed_in_batches_read_anew(function, tmp_path, monkeypatch) -> None:
    run = train(config(tmp_path / "run", **lazy(tmp_path, function), epochs=1))
    metadata = load_checkpoint(run)[1]
    memory = config(tmp_path / "memory", **lazy(tmp_path) | {"lazy": False}, epochs=1)
    train(memory)
    for name in ("config.json", "model.safetensors", "model.json"):
        assert (run / name).exists()
    problem = load_run(run, samples=100, batch_size=30)
    assert float(load_run(run).loss()) == pytest.approx(metadata["train_loss"], rel=1e-6)
    assert [len(y) for _, y in problem.reader.data] == [30, 30, 30, 10]
    test = splits(run)["test"]
    for _ in range(2):
        assert sum(len(y) for _, y in test) == 597
    found = run_robustness(run, samples=70, corruptions=False)
    assert found["samples"] == 70
    x, y = (torch.cat(parts) for parts in zip(*test, strict=True))
    outputs = load_checkpoint(run)[0](x[:70])
    assert found["error"] == pytest.approx((outputs.argmax(1) != y[:70]).double().mean().item())


def test_no_more_than_two_batches_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living, most, original = WeakSet(), [0], Sample.at

    def counted(self, place, seed):
        x, y = original(self, place, seed)
        x = x.clone()
        living.add(x)
        most[0] = max(most[0], len(living))
        return x, y

    monkeypatch.setattr(Sample, "at", counted)
    data = lazy(tmp_path) | {"batch_size": 50, "epochs": 1, "swa_from": 1, "stop_at_loss": 1e-9} | BATCH_NORM
    run = train(config(tmp_path / "run", **data))
    load_run(run, batch_size=50).gradient()
    assert 50 <= most[0] <= 100


# --- what is told

KINDS = {
    "dies": r"item 7: KeyError: 'no such file",
    "text": "item 7 must have a tensor or an array as its input, got str",
    "single": r"item 7 must be \(input, target\), got Tensor",
    "mapping": r"item 7 must be \(input, target\), got dict",
    "float": r"item 7 must have a whole-numbered target, got torch.float32 \(\)",
    "word": "item 7 must have a whole-numbered target, got str",
    "large": r"item 7: labels must be in \[0, 10\), got 10 to 10",
    "shape": r"inputs must be of one shape, got \(1, 8, 8\) and \(1, 7, 8\)|.*\(1, 7, 8\) and \(1, 8, 8\)",
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_item_is_told_in_one_line(kind, workers, tmp_path) -> None:
    run = config(tmp_path / "run", **lazy(tmp_path, "faulty", kind=kind), workers=workers)
    with pytest.raises(ValueError, match=rf"^dataset .*mine.py:faulty \(train\): {KINDS[kind]}") as caught:
        train(run)
    assert "\n" not in str(caught.value)


def test_a_worker_that_is_killed_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^a process that reads the data is gone: .*; with less memory or fewer wo"):
        train(config(tmp_path / "run", **lazy(tmp_path, "faulty", kind="killed"), workers=2))


@pytest.mark.parametrize(
    ("function", "settings", "words"),
    [
        ("own_generator", {}, "must give the same items when it is read again, got others"),
        ("once", {}, "must give the same items when it is read again, got others"),
        ("nameless", {}, "must say its classes: give train.classes"),
        ("empty", {}, "must give at least one item each time it is read, got none"),
        ("ending", {"data_settings": {"e1": 0}}, "must give items in every epoch, got none"),
        ("stream", {"data_settings": {"divided": False}, "workers": 2}, "must not give the same items twice"),
        ("stream", {"label_noise": 0.2}, "label_noise must be 0 for a stream"),
        ("stream", {"validation_share": 0.2}, "validation_share must be 0 for a stream"),
        ("stream", {"objective": "saf"}, "objective 'saf' must know samples again"),
        ("sets", {"bootstrap_rounds": 1}, "bootstrap_rounds must be 0 for data that are read lazily"),
        ("sets", {"steps_per_epoch": 1}, "steps_per_epoch belongs to streams"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(function, settings, words, tmp_path) -> None:
    run = config(tmp_path / "run", **lazy(tmp_path, function) | settings)
    with pytest.raises(ValueError, match=words) as caught:
        train(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lazily", [False, True])
def test_a_last_batch_of_one_that_batch_norm_cannot_take_is_told(lazily, tmp_path) -> None:
    network = {"model_settings": {"hidden": [8], "norm": "batch"}, "batch_size": 1199}
    with pytest.raises(ValueError, match=r"^batch norm needs more than a batch of 1: take another batch_size, "):
        train(config(tmp_path / "run", **lazy(tmp_path) | {"lazy": lazily}, **network))


def test_for_a_gpu_batches_are_pinned(tmp_path: Path) -> None:
    data = load(lazy(tmp_path)["dataset"], lazily=True)
    for name, pinned in (("cuda", True), ("cpu", False)):
        found = placed(data, torch.device(name), 3)
        assert (found.train.workers, found.train.pinned, found.test.pinned) == (3, pinned, pinned)


def test_a_set_that_fits_into_memory_is_not_read_lazily(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lazy and workers belong to folder, huggingface and functions; 'digits' is"):
        config(tmp_path, workers=1)


@pytest.mark.parametrize("lazily", [False, True])
def test_data_that_changed_before_a_run_goes_on_are_told(lazily, tmp_path, monkeypatch) -> None:
    run = config(tmp_path / "run", **lazy(tmp_path) | {"lazy": lazily})
    cut_short(run, 2, monkeypatch)
    script = tmp_path / "mine.py"
    before = script.read_text()
    script.write_text(before.replace("D = digits()", "D = digits(); D.train_inputs[-1] += 1"))
    with pytest.raises(ValueError, match=r"^dataset must be the one that the run began with, got other items; put it"):
        train(run)
    script.write_text(before)
    train(run)
    whole = train(config(tmp_path / "whole", **lazy(tmp_path) | {"lazy": lazily}))
    assert torch.equal(weights(tmp_path / "run"), weights(whole))


def test_a_stream_that_has_become_shorter_is_told(tmp_path, monkeypatch) -> None:
    run = config(tmp_path / "run", **lazy(tmp_path, "ending"), batch_size=100)
    cut_short(run, 5, monkeypatch)
    (tmp_path / "mine.py").write_text(SCRIPT.replace("len(self.items)), own[1]", "350), own[1]"))
    with pytest.raises(ValueError, match=r"gave before the run was interrupted, but ends before batch 5 of epoch 1"):
        train(run)


def test_a_stream_goes_on_with_its_workers_and_a_set_with_any(tmp_path, monkeypatch) -> None:
    for function in ("stream", "sets"):
        run = config(tmp_path / function, **lazy(tmp_path, function), workers=2)
        cut_short(run, 2, monkeypatch)
        other = config(tmp_path / function, **lazy(tmp_path, function))
        if function == "stream":
            with pytest.raises(ValueError, match=r"^workers must be 2, with which the run began: .*; got 0"):
                train(other)
        else:
            train(other)
            whole = train(config(tmp_path / "whole", **lazy(tmp_path)))
            assert torch.equal(weights(run.folder), weights(whole))


# --- the file of start_from


def test_a_run_that_began_does_not_need_the_weights_that_it_began_with(tmp_path, monkeypatch) -> None:
    old = train(config(tmp_path / "old", epochs=1, model_settings={"hidden": [8]}))
    settings = {"start_from": str(old), "epochs": 2}
    whole = train(config(tmp_path / "whole", **settings))
    run = config(tmp_path / "run", **settings)
    cut_short(run, 2, monkeypatch)
    shutil.rmtree(old)
    train(run)
    assert torch.equal(weights(run.folder), weights(whole))
    assert load_checkpoint(run.folder)[1]["fresh"] == load_checkpoint(whole)[1]["fresh"]
    with pytest.raises(ValueError, match="start_from must be a run folder or a file of weights, found no file"):
        train(config(tmp_path / "new", **settings))


# --- several processes


def ranked(rank: int, port: int, folder: str, settings: dict) -> None:
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost"}
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    build = loop.build
    loop.build = lambda *arguments: build(*arguments).double()
    try:
        train(config(folder, **settings))
    except ValueError as error:
        Path(f"{folder}-{rank}.txt").write_text(str(error))


def starved(rank: int, port: int, folder: str, settings: dict) -> None:
    """The same, where threads of gloo run only while the main one rests, as they may on a busy machine."""
    start = loop.Run._start_epoch

    def start_epoch(run):
        for thread in (int(path.name) for path in Path("/proc/self/task").iterdir()):
            os.sched_setaffinity(thread, {min(os.sched_getaffinity(0))})
            if thread != get_native_id():
                os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        return start(run)

    loop.Run._start_epoch = start_epoch
    ranked(rank, port, folder, settings)


def by_two(folder: Path, settings: dict, target=ranked) -> None:
    port = free_port()
    jobs = [served().Process(target=target, args=(rank, port, str(folder), settings)) for rank in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
        job.kill()  # does nothing to one that has ended
    assert [job.exitcode for job in jobs] == [0, 0]


@pytest.mark.parametrize(("function", "workers"), [("doubles", 0), ("doubles", 1), ("double_stream", 1)])
def test_two_processes_equal_one_in_float64(function, workers, tmp_path, monkeypatch) -> None:
    settings = lazy(tmp_path, function) | {"optimizer": "sam", "batch_size": 301, "epochs": 2}
    by_two(tmp_path / "two", settings | {"workers": workers})
    build = loop.build
    monkeypatch.setattr(loop, "build", lambda *arguments: build(*arguments).double())
    train(config(tmp_path / "one", **settings))
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, rel=1e-9)
    torch.testing.assert_close(state(tmp_path / "two"), state(tmp_path / "one"), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("function", "settings", "words"),
    [
        ("double_stream", {"batch_size": 1199}, "each of 2 processes must have an item of every batch of a stream"),
        ("by_rank", {}, "dataset must give all processes the same items"),
    ],
)
@pytest.mark.parametrize("target", [ranked, starved])
def test_what_two_processes_cannot_read_is_told_by_both(function, settings, words, target, tmp_path) -> None:
    if target is starved and not hasattr(os, "SCHED_IDLE"):
        pytest.skip("threads have no priorities here")
    by_two(tmp_path / "two", lazy(tmp_path, function) | settings, target)
    for rank in range(2):
        assert words in (tmp_path / f"two-{rank}.txt").read_text()
