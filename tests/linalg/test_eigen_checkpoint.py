import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest
import torch
from cases import normal, same, seeded, symmetric

from landscape.linalg import top_eigenpairs
from landscape.linalg.operator import CurvatureOperator, MatrixOperator
from landscape.storage import array_checkpoint as checkpoint

VALUES = torch.cat([torch.linspace(-1, 1, 110), torch.tensor([3.0, 3.0, 3.0, 2.0, 1.5, -4.0])])
TWO = torch.cat([torch.full((30,), 3.0), torch.full((30,), -1.0)])


class StoppedError(Exception):
    pass


class Killable(CurvatureOperator):
    """Raises at the given product, before anything is computed."""

    def __init__(self, matrix, stop_at=None):
        super().__init__(len(matrix), matrix.dtype, matrix.device)
        self.inner, self.stop_at, self.passes = MatrixOperator(matrix), stop_at, 0

    def _product(self, block):
        self.passes += 1
        if self.passes == self.stop_at:
            raise StoppedError
        return self.inner.matmat(block)


SETTINGS = {
    "plain": (VALUES, {"k": 4, "tol": 1e-8}),
    "blocks": (VALUES, {"k": 4, "block_size": 3, "tol": 1e-8}),
    "restarts": (VALUES, {"k": 4, "basis_size": 12, "tol": 1e-6}),
    "rounded": (VALUES, {"k": 3, "basis_size": 14, "basis_dtype": torch.bfloat16, "max_matvecs": 60}),
    "breakdowns": (TWO, {"k": 20, "block_size": 2}),
    "starts": (VALUES, {"k": 3, "start": normal(116, 2)}),
}


def interrupted(matrix, settings, path, seed, choose):
    """Run to the end through one stop after another; (pairs, generator, passes, stops)."""
    passes = stops = 0
    while True:
        A, source = Killable(matrix, stop_at=choose.randint(1, 12)), seeded(seed)
        try:
            pairs = top_eigenpairs(A, resume=path, generator=source, **settings)
            return pairs, source, passes + A.passes, stops
        except StoppedError:
            passes, stops = passes + A.passes - 1, stops + 1


@pytest.mark.parametrize("every", [0.0, 1e9])
@pytest.mark.parametrize("name", SETTINGS)
def test_stopped_at_random_products_it_ends_with_the_same_bits(name, every, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", every)
    values, settings = SETTINGS[name]
    matrix, path = symmetric(values), tmp_path / "run.npz"
    whole_operator, whole_source = Killable(matrix), seeded(5)
    whole = top_eigenpairs(whole_operator, generator=whole_source, **settings)
    pairs, source, passes, stops = interrupted(matrix, settings, path, 5, random.Random(0))
    assert stops >= 2
    assert passes == whole_operator.passes  # nothing is done twice
    for field in ("values", "vectors", "residuals", "converged"):
        assert same(getattr(pairs, field), getattr(whole, field)), field
    assert pairs.matvecs == whole.matvecs
    assert torch.equal(source.get_state(), whole_source.get_state())
    assert not path.exists()


def test_stopped_by_its_progress_it_goes_on(tmp_path):
    A, path, calls = MatrixOperator(symmetric(VALUES)), tmp_path / "run.npz", []
    whole = top_eigenpairs(A, 4, start=normal(116))

    def stop(step):
        calls.append(step)
        if len(calls) % 3 == 0:
            raise StoppedError

    for _ in range(100):
        try:
            pairs = top_eigenpairs(A, 4, start=normal(116), progress=stop, resume=path)
            break
        except StoppedError:
            continue
    assert len(calls) > 3
    assert same(pairs.vectors, whole.vectors)
    assert pairs.matvecs == whole.matvecs


class Logged(Killable):
    """Slow, and notes every product in a file."""

    def __init__(self, log):
        super().__init__(symmetric(VALUES))
        self.log = log

    def _product(self, block):
        sleep(0.01)
        with self.log.open("a") as file:
            file.write("x")
        return super()._product(block)


def logged_run(path, log):
    return top_eigenpairs(Logged(log), 4, tol=1e-8, basis_size=16, resume=path, generator=seeded(5))


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from landscape.storage import array_checkpoint as checkpoint
checkpoint.EVERY = checkpoint.SHARE = 0.0
from test_eigen_checkpoint import logged_run
logged_run(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_outright_it_goes_on_with_the_same_bits(tmp_path):
    path, log = tmp_path / "run.npz", tmp_path / "log"
    places = os.pathsep.join([str(Path(__file__).parent), *map(str, Path(__file__).parents[1:3])])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(log)], env={**os.environ, "PYTHONPATH": places}
    )
    while not log.exists() or log.stat().st_size < 20:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    done = log.stat().st_size
    found = logged_run(path, log)
    resumed = log.stat().st_size - done
    whole = logged_run(None, log)
    for field in ("values", "vectors", "residuals", "converged"):
        assert same(getattr(found, field), getattr(whole, field)), field
    assert found.matvecs == whole.matvecs <= done + resumed <= whole.matvecs + 1


def stopped(path, **settings):
    with pytest.raises(StoppedError):
        top_eigenpairs(Killable(symmetric(VALUES), stop_at=9), resume=path, **{"k": 4, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 5}, "is of other work, with k 4; choose another path"),
        ({"tol": 1e-5}, "is of other work, with tol 0.0001"),
        ({"which": "LA"}, "is of other work, with which 'LM'"),
        ({"block_size": 2, "basis_size": 40}, "is of other work, with block_size 1"),
        ({"basis_dtype": torch.float32}, "is of other work, with basis_dtype 'torch.float64'"),
        ({"start": normal(116)}, "is of other work, with start None"),
        ({"generator": seeded(9)}, "is of other work, with generator "),
    ],
)
def test_other_settings_are_refused(settings, message, tmp_path):
    path = tmp_path / "run.npz"
    stopped(path)
    with pytest.raises(ValueError, match=message):
        top_eigenpairs(Killable(symmetric(VALUES)), resume=path, **{"k": 4, **settings})
    assert path.exists()


def test_another_operator_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    stopped(path)
    kept = path.read_bytes()
    with pytest.raises(ValueError, match="is of other work, with operator 'Killable'"):
        top_eigenpairs(MatrixOperator(symmetric(VALUES)), 4, resume=path)
    for other in (symmetric(VALUES, seed=1), 1.01 * symmetric(VALUES), -symmetric(VALUES)):
        with pytest.raises(ValueError, match="the file of resume= is of another operator; choose another path or"):
            top_eigenpairs(Killable(other), 4, resume=path)
    assert path.read_bytes() == kept


def test_noise_of_the_products_is_no_other_operator(tmp_path):
    path = tmp_path / "run.npz"
    stopped(path)
    noisy = symmetric(VALUES) + 1e-6 * (normal(116, 116) + normal(116, 116).T) / 20
    pairs = top_eigenpairs(Killable(noisy), 4, resume=path)
    assert pairs.converged.all()
