"""Loaders whose workers stay: the same batches as those of fresh workers, read as often as passes are made."""

import os
import pickle
import random
import signal
from itertools import islice
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from landscape import Problem, hessian
from landscape.problem.kept_workers import KeptWorkers, with_kept_workers
from landscape.problem.random_draws import read_apart

CONTEXT = {"multiprocessing_context": "fork"}


def drawn() -> float:
    return float(torch.rand(()) + random.random() + np.random.rand())


class Augmented(Dataset):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([place + drawn(), 1.0]), place % 2


class Stream(IterableDataset):
    """Items with noise, divided among the workers; each reading notes its process and the items it gave."""

    def __init__(self, notes: Path | None = None, count: int = 20) -> None:
        self.notes, self.count = notes, count

    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for place in range(first, self.count, step):
            if self.notes:
                with self.notes.open("a") as lines:
                    lines.write(f"{os.getpid()} {place}\n")
            yield torch.tensor([place + drawn(), 1.0]), place % 2


class Seeded:
    """What a user's worker_init_fn may do."""

    def __call__(self, number: int) -> None:
        torch.manual_seed(100 + number)


LOADERS = {
    "augmented": lambda: DataLoader(Augmented(), batch_size=3, num_workers=2, **CONTEXT),
    "shuffled": lambda: DataLoader(Augmented(), batch_size=3, num_workers=2, shuffle=True, **CONTEXT),
    "own generator": lambda: DataLoader(
        Augmented(), batch_size=3, num_workers=2, shuffle=True, generator=torch.Generator().manual_seed(5), **CONTEXT
    ),
    "seeded": lambda: DataLoader(Augmented(), batch_size=3, num_workers=2, worker_init_fn=Seeded(), **CONTEXT),
    "no batches": lambda: DataLoader(Augmented(), batch_size=None, num_workers=2, **CONTEXT),
    "stream": lambda: DataLoader(Stream(), batch_size=3, num_workers=2, persistent_workers=True, **CONTEXT),
}


def passes(data, loader, count: int = 3) -> list[list]:
    """Of as many passes, each from the same state of the loader's generator."""
    found = []
    for _ in range(count):
        if loader.generator is not None:
            loader.generator.manual_seed(5)
        found.append([(x.tolist(), torch.as_tensor(y).tolist()) for x, y in read_apart(data, 0)])
    return found


@pytest.mark.parametrize("name", LOADERS)
def test_every_pass_has_the_batches_of_fresh_workers_to_the_bit_from_the_same_processes(name: str) -> None:
    fresh, loader = LOADERS[name](), LOADERS[name]()
    vars(fresh)["persistent_workers"] = False
    expected = passes(fresh, fresh, 1)[0]
    kept = with_kept_workers(loader)
    assert isinstance(kept, KeptWorkers)
    first = passes(kept, loader, 1)
    pids = {process.pid for process in active_children()}
    assert len(pids) == 2
    assert first + passes(kept, loader) == [expected] * 4
    assert {process.pid for process in active_children()} == pids
    del kept
    assert not active_children()


def test_a_pass_that_was_left_or_lies_inside_another_changes_nothing() -> None:
    loader = LOADERS["shuffled"]()
    kept = with_kept_workers(loader)
    expected = passes(kept, loader, 1)[0]
    list(islice(read_apart(kept, 0), 2))
    outer = read_apart(kept, 0)
    next(outer)
    assert passes(kept, loader, 1) == [expected]
    assert len(list(outer)) == len(expected) - 1
    assert passes(kept, loader, 1) == [expected]


def test_problems_on_one_loader_share_its_workers_and_other_draws_have_other_seeds() -> None:
    loader = LOADERS["augmented"]()
    one, two = (Problem(nn.Linear(2, 2), F.cross_entropy, loader, draws=draws) for draws in (0, 1))
    again = Problem(nn.Linear(2, 2), F.cross_entropy, loader)
    usual, others = (list(read_apart(loader, draws)) for draws in (0, 1))
    for problem, expected in ((one, usual), (again, usual), (two, others), (one, usual)):
        found = problem.batches_with_units()
        assert all(torch.equal(x, y) for (x, *_), (y, _) in zip(found, expected, strict=True))
        assert len(active_children()) == 2
    assert not torch.equal(usual[0][0], others[0][0])


class Dying(Augmented):
    """Kills the worker that reads place 7, once."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        if place == 7 and get_worker_info() and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(place)


def test_workers_of_which_one_was_killed_are_started_anew(tmp_path: Path) -> None:
    loader = DataLoader(Dying(tmp_path / "mark"), batch_size=3, num_workers=2, **CONTEXT)
    kept = with_kept_workers(loader)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(read_apart(kept, 0))
    assert passes(kept, loader, 2) == passes(loader, loader, 2)


def test_loaders_without_workers_streams_that_do_not_say_so_and_loaders_of_ones_own_are_left_alone() -> None:
    class Own(DataLoader):
        def __iter__(self):
            return iter([])

    for loader in (
        DataLoader(Augmented(), batch_size=3),
        DataLoader(Stream(), batch_size=3, num_workers=2),
        Own(Augmented(), num_workers=2),
        [1, 2],
    ):
        assert with_kept_workers(loader) is loader


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_larger_than_the_memory_is_read_once_a_pass_by_the_same_workers(workers: int, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    how = {"num_workers": workers, "persistent_workers": True, **CONTEXT} if workers else {}
    loader = DataLoader(Stream(notes), batch_size=4, **how)
    problem = Problem(nn.Linear(2, 2), F.cross_entropy, loader)
    H = hessian(problem, memory=64)  # bytes: a batch and a half
    v = problem.vector()
    for _ in range(3):
        H @ v
    problem.loss()
    problem.gradient()
    read = [line.split() for line in notes.read_text().splitlines()]
    assert sorted(int(place) for _, place in read) == sorted([*range(20)] * 5)
    assert len({pid for pid, _ in read}) == max(workers, 1)


def test_a_problem_that_has_read_goes_to_other_processes_without_its_workers() -> None:
    problem = Problem(nn.Linear(2, 2), F.cross_entropy, LOADERS["augmented"]())
    expected = problem.loss()
    copied = pickle.loads(pickle.dumps(problem))
    assert torch.equal(copied.loss(), expected)
