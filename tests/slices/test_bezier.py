import copy

import pytest
import torch
from cases import everything, make, normal, same, seeded, symmetric
from quadratics import quadratic
from torch.utils.data import DataLoader, TensorDataset

from landscape.problem import Problem
from landscape.slices import direction_to, path_losses, straight_path, train_path
from landscape.storage.results import BezierPath


def moved(model, seed=5):
    """Another network: own weights, own batch-norm statistics."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for index, p in enumerate(other.parameters()):
            p.add_(0.5 * normal(*p.shape, seed=seed + index))
        for name, buffer in other.named_buffers():
            if "running" in name:
                buffer.add_(0.3)
    return other


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_a_path_begins_and_ends_exactly_at_its_ends(kind):
    path = BezierPath(normal(20), normal(20, seed=1), normal(20, seed=2), kind)
    assert torch.equal(path.at(0.0), path.start)
    assert torch.equal(path.at(1.0), path.end)
    for t in (0.0, 0.1, 0.5, 0.77, 1.0):
        assert sum(path.weights(t)) == pytest.approx(1.0, abs=1e-15)
        assert min(path.weights(t)) >= 0
    middle = {"bezier": (path.start + 2 * path.bend + path.end) / 4, "chain": path.bend}[kind]
    torch.testing.assert_close(path.at(0.5), middle, rtol=1e-15, atol=1e-15)


def test_the_straight_path_is_the_line():
    problem = make("mlp").problem()
    other = moved(problem.model)
    path, d = straight_path(problem, other), direction_to(problem, other)
    for t in (0.0, 0.3, 1.0):
        torch.testing.assert_close(path.at(t), problem.vector() + t * d, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("kind", ["bezier", "chain"])
def test_two_steps_on_a_quadratic_by_hand(kind):
    A, b, w = symmetric(torch.linspace(1, 4, 6)), normal(6), normal(6, seed=1)
    problem, end = quadratic(A, b, w), normal(6, seed=2)
    path = train_path(problem, end, kind=kind, epochs=1, lr=0.1, momentum=0.5, generator=seeded(3), progress=False)
    source, theta, velocity = seeded(3), (w + end) / 2, torch.zeros(6, dtype=torch.float64)
    torch.randint(2**31, (), generator=source)  # the order of the data
    for _ in range(2):  # batches
        t = float(torch.rand((), generator=source, dtype=torch.float64))
        first, bend, last = BezierPath(w, theta, end, kind).weights(t)
        g = A @ (first * w + bend * theta + last * end) + b
        velocity = 0.5 * velocity + bend * g
        theta = theta - 0.1 * velocity
    torch.testing.assert_close(path.bend, theta, rtol=1e-13, atol=1e-13)


def test_the_bend_finds_its_optimum_on_a_quadratic():
    w, end = 3 + normal(6), 3 + normal(6, seed=2)
    problem = quadratic(torch.eye(6, dtype=torch.float64), w=w)
    best = -0.75 * (w + end)  # E 2t(1−t) φ(t) = 0:  (w + end) / 10 + θ 2/15 = 0
    path = train_path(problem, end, epochs=100, lr=1.0, momentum=0.0, progress=False)
    assert float((path.bend - best).norm()) < 0.1 * float(((w + end) / 2 - best).norm())


@pytest.mark.parametrize("name", ["conv_bn", "dropout"])
def test_both_networks_stay_as_they_are_and_the_ends_are_theirs(name):
    case = make(name)
    other = moved(case.model)
    before = everything(case.model), everything(other)
    problem = case.problem()
    path = train_path(problem, other, epochs=2, progress=False)
    assert same([everything(case.model), everything(other)], list(before))
    assert torch.equal(path.start, problem.vector())
    assert torch.equal(path.end, Problem(other, case.criterion, []).vector())
    assert not torch.equal(path.bend, straight_path(problem, other).bend)


def test_losses_at_the_ends_are_those_of_the_networks_with_statistics_recomputed():
    case = make("conv_bn")
    other = moved(case.model)
    data = {"train": case.batches, "test": case.batches[1:]}
    line = path_losses(case.problem(), straight_path(case.problem(), other), 3, data, progress=False)
    assert line.x.tolist() == [0.0, 0.5, 1.0]
    for index, model in ((0, case.model), (-1, other)):
        own = Problem(model, case.criterion, case.batches, batch_norm="recompute")
        assert float(line.loss["train"][index]) == pytest.approx(float(own.loss()), rel=1e-12)
        buffers = own.statistics(own.vector())
        test = own.with_data(data["test"]).mean(lambda batch: batch.loss(batch.w), buffers=buffers)
        assert float(line.loss["test"][index]) == pytest.approx(float(test), rel=1e-12)


def test_training_lowers_the_loss_along_the_curve():
    case = make("mlp")
    other = moved(case.model)
    problem = case.problem(data=(case.inputs, case.targets))
    curve = train_path(problem, other, epochs=40, lr=0.2, progress=False)
    bent, straight = (
        path_losses(problem, path, 21, progress=False).loss["train"] for path in (curve, straight_path(problem, other))
    )
    assert torch.equal(bent[[0, -1]], straight[[0, -1]])
    assert float(bent.mean()) < float(straight.mean())


def test_a_caller_that_switched_derivatives_off_gets_the_same_bend():
    problem = make("mlp").problem()
    other = moved(problem.model)
    plain = train_path(problem, other, epochs=2, progress=False)
    with torch.inference_mode():
        inside = train_path(problem, other, epochs=2, progress=False)
    assert torch.equal(inside.bend, plain.bend)


def test_a_selection_bends_alone():
    problem = make("mlp").problem(parameters=["2.weight"])
    path = train_path(problem, moved(problem.model), epochs=1, progress=False)
    assert path.bend.shape == (18,)


class KilledError(Exception):
    pass


def shuffled(case, calls=None, limit=0):
    """A problem with a shuffling loader; the criterion ends the run after `limit` calls."""

    def criterion(outputs, targets):
        if calls is not None:
            calls.append(1)
            if limit and len(calls) > limit:
                raise KilledError
        return case.criterion(outputs, targets)

    loader = DataLoader(TensorDataset(case.inputs, case.targets), batch_size=20, shuffle=True)
    return Problem(case.model, criterion, loader)


def test_a_killed_training_goes_on_to_the_same_bend(tmp_path, monkeypatch):
    monkeypatch.setattr("landscape.storage.array_checkpoint.EVERY", 0.0)
    monkeypatch.setattr("landscape.storage.array_checkpoint.SHARE", 0.0)
    case = make("mlp")
    other = moved(case.model)
    settings = {"epochs": 5, "progress": False}
    whole = train_path(shuffled(case), other, **settings, generator=seeded(2))
    file, calls = tmp_path / "bend.npz", []
    with pytest.raises(KilledError):
        train_path(shuffled(case, calls, 10), other, **settings, generator=seeded(2), resume=file)
    calls.clear()
    torch.randn(3)  # the global state has no part in it
    again = train_path(shuffled(case, calls), other, **settings, generator=seeded(2), resume=file)
    assert torch.equal(again.bend, whole.bend)
    assert len(calls) == 3 * 4 + 1  # a look at the model; two whole epochs were not done again
    assert not file.exists()


def test_settings_are_checked():
    problem = make("mlp").problem()
    other = problem.vector() + 1
    for settings, message in (
        ({"kind": "cubic"}, "kind must be one of 'bezier' | 'chain', got 'cubic'"),
        ({"epochs": 0}, "epochs must be an integer at least 1, got 0"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"momentum": 1.0}, r"momentum must be in [0, 1), got 1.0"),
    ):
        with pytest.raises(ValueError, match="must be") as error:
            train_path(problem, other, **settings)
        assert str(error.value) == message
