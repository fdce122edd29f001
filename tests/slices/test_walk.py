import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from cases import everything, make, normal, same
from torch import nn

from landscape.curvature import hessian
from landscape.problem import Problem
from landscape.slices import convexity_map, gradient_norm_map, random_directions, slice_1d, slice_2d
from landscape.slices.evaluation import device_cache as holding
from landscape.slices.evaluation import fields
from landscape.slices.evaluation.device_cache import cached_on_device
from landscape.slices.evaluation.evaluator import slice_evaluator
from landscape.slices.evaluation.parametrisation import Plane
from landscape.storage.results import SliceBand

GRID = {"x": (-1.0, 1.0, 4), "y": (-1.0, 2.0, 3), "progress": False}


class Killing:
    """A criterion that ends its process on the way, once: where `marker` is there."""

    def __init__(self, marker: str) -> None:
        self.marker, self.calls, self.home = marker, 0, os.getpid()

    def __call__(self, outputs, targets):
        self.calls += not outputs.requires_grad  # else it is asked which class it draws an output to
        if os.getpid() != self.home and self.calls > 4 and os.path.exists(self.marker):  # noqa: PTH110
            os.unlink(self.marker)  # noqa: PTH108
            os.kill(os.getpid(), signal.SIGKILL)
        return nn.functional.cross_entropy(outputs, targets)


def trained(criterion=nn.functional.cross_entropy) -> tuple[Problem, tuple]:
    case = make("mlp")
    problem = Problem(case.model, criterion, (case.inputs, case.targets))
    return problem, random_directions(problem)


def test_workers_equal_one_process_to_the_bit_and_a_killed_one_is_named_and_loses_nothing(tmp_path):
    marker, file = tmp_path / "marker", tmp_path / "walk.jsonl"
    marker.touch()
    problem, (d1, d2) = trained(Killing(str(marker)))
    with pytest.raises(RuntimeError, match=r"worker process \d+ was killed by signal 9; with"):
        slice_2d(problem, d1, d2, **GRID, resume=file, workers=2)
    points = len(file.read_text().splitlines()) - 1
    assert 1 <= points <= 11  # what was on its way from the killed worker is lost
    shared = slice_2d(problem, d1, d2, **GRID, resume=file, workers=2)
    assert len(file.read_text().splitlines()) == 1 + 12
    serial = slice_2d(problem, d1, d2, **GRID)
    assert torch.equal(shared.loss["train"], serial.loss["train"])
    assert torch.equal(shared.accuracy["train"], serial.accuracy["train"])


def test_any_executor_shares_the_points_of_slices_and_maps_to_the_bit():
    problem, (d1, d2) = trained()
    grid = {"x": (-1.0, 1.0, 3), "y": (-1.0, 2.0, 2), "progress": False}
    with ThreadPoolExecutor(2) as threads:
        for made in (slice_2d, gradient_norm_map, convexity_map):
            shared, serial = (made(problem, d1, d2, **grid, workers=workers) for workers in (threads, 1))
            numbers = [found.loss["train"] if made is slice_2d else found.values for found in (shared, serial)]
            assert same(*numbers)


def test_what_cannot_be_sent_to_a_worker_is_one_line():
    problem, (d1, d2) = trained(lambda outputs, targets: outputs.mean())
    with pytest.raises(ValueError, match="use functions of a module, no lambda") as error:
        slice_2d(problem, d1, d2, **GRID, workers=2)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="workers must be an integer at least 1, got 0"):
        slice_2d(problem, d1, d2, **GRID, workers=0)


@pytest.mark.parametrize("block", [True, False])
def test_several_directions_are_a_band_of_their_lines(block):
    problem, directions = trained()
    band = slice_1d(problem, torch.stack(directions, dim=1) if block else directions, (-1.0, 1.0, 5))
    assert isinstance(band, SliceBand)
    assert band.loss["train"].shape == (2, 5)
    for k, d in enumerate(directions):
        assert torch.equal(band.loss["train"][k], slice_1d(problem, d, (-1.0, 1.0, 5)).loss["train"])
    assert torch.equal(band.mean("train"), band.loss["train"].mean(0))


def test_details_tell_what_it_was_made_with_and_how_long_it_took():
    problem, (d, _) = trained()
    line = slice_1d(problem, d, (-1.0, 1.0, 30), details={"normalize": "filter", "seed": 0})
    assert line.details["units"] == {"train": 64}
    assert (line.details["batch_norm"], line.details["subset"]) == ("eval", None)
    assert (line.details["normalize"], line.details["seed"]) == ("filter", 0)
    assert line.details["seconds"] > 0
    assert line.details["estimated_seconds"] > 0


def test_the_estimate_is_what_the_first_point_took_times_the_points_that_are_left(monkeypatch):

    clock = iter([100.0, 102.5, 170.0])
    monkeypatch.setattr(fields, "perf_counter", lambda: next(clock))
    problem, (d, _) = trained()
    details = slice_1d(problem, d, (-1.0, 1.0, 30)).details
    assert (details["estimated_seconds"], details["seconds"]) == (2.5 * 30, 70.0)


# ------------------------------------------------------------- data kept in memory


def test_small_batches_are_put_together_and_the_loss_stays():
    case = make("mlp")
    problem = case.problem(data=list(zip(case.inputs.split(10), case.targets.split(10), strict=True)))
    kept = cached_on_device(problem)
    assert [len(t) for _, t in kept.data] == [64]
    torch.testing.assert_close(kept.loss(), problem.loss(), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("why", ["large", "units", "policy", "no mean over samples", "shapes"])
def test_batches_stay_apart_where_joining_them_would_not_pay_or_change_the_loss(why, monkeypatch):
    case = make("conv_bn")
    data, settings = list(zip(case.inputs.split(10), case.targets.split(10), strict=True)), {}
    criterion = case.criterion
    if why == "large":
        monkeypatch.setattr(holding, "SMALL", 10 * 25 * 8)
    elif why == "units":
        settings["weight"] = lambda _, t: len(t)
    elif why == "policy":
        settings["batch_norm"] = "batch"
    elif why == "no mean over samples":
        criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    else:
        data = [(x if i % 2 else x.float(), t) for i, (x, t) in enumerate(data)]
        case.model.float()
        settings["forward"] = lambda model, x: model(x.float())
    problem = Problem(case.model, criterion, data, **settings)
    assert [len(t) for _, t in cached_on_device(problem).data] == [10] * 6 + [4]


def test_data_that_does_not_fit_is_read_at_every_point(monkeypatch):
    case = make("mlp")
    monkeypatch.setattr(holding, "MEMORY", 1000)
    reads = []

    class Source:
        def __iter__(self):
            reads.append(1)
            return iter(case.batches)

    problem = case.problem(data=Source())
    line = slice_1d(problem, normal(problem.size), (0.0, 1.0, 3))
    assert len(reads) == 1 + 1 + 3  # tried, centre, points
    reads.clear()
    monkeypatch.setattr(holding, "MEMORY", 2**20)
    assert same(
        slice_1d(case.problem(data=Source(), weight=lambda _, t: len(t)), normal(problem.size), (0.0, 1.0, 3)).loss[
            "train"
        ],
        line.loss["train"],
    )
    assert len(reads) == 1


@pytest.mark.parametrize("policy", ["eval", "batch", "recompute"])
@pytest.mark.parametrize("name", ["conv_bn", "dropout", "tied"])
def test_points_for_which_the_model_is_prepared_once_are_the_same_to_the_bit(name, policy):
    case = make(name)
    problem = case.problem(batch_norm=policy)
    plane = Plane(problem.vector(), {"x": problem.vector().cos()})
    evaluator = slice_evaluator(problem, plane, None, None, None)
    points = [(x,) for x in (0.0, 0.3, -0.2, 0.0)]
    before = everything(case.model)
    alone = [evaluator.at(point) for point in points]
    with evaluator.prepared():
        together = [evaluator.at(point) for point in points]
    assert same(together, alone)
    assert not torch.equal(alone[0], alone[1])
    assert same(everything(case.model), before)


def test_a_pass_kept_open_serves_passes_like_it_alone():
    case = make("conv_bn")
    problem, w = case.problem(), case.problem().vector()
    other, means = problem.with_batch_norm("batch"), {"1.running_mean": torch.ones(3, dtype=torch.float64)}
    loss = partial(problem.mean, lambda batch: batch.loss(batch.w))
    expected = [problem.gradient(w + 1), other.loss(w + 2), loss(w, buffers=means), problem.loss(w)]
    product = hessian(problem, w) @ w
    before = everything(case.model)
    with problem.kept_open():
        found = [problem.gradient(w + 1), other.loss(w + 2), loss(w, buffers=means), problem.loss(w)]
        assert torch.equal(hessian(problem, w) @ w, product)
    assert same(found, expected)
    assert len({float(value) for value in expected[1:]}) == 3
    assert same(everything(case.model), before)


def test_a_failing_point_leaves_the_model_as_it_was():
    case = make("mlp")
    problem = case.problem()
    evaluator = slice_evaluator(problem, Plane(problem.vector(), {"x": problem.vector()}), None, None, None)
    before, expected = everything(case.model), problem.loss()
    with pytest.raises(TypeError), evaluator.prepared():
        [evaluator.at(point) for point in ((1.0,), ("far",))]
    assert same(everything(case.model), before)
    assert not torch.equal(problem.loss(problem.vector() + 1), expected)
    assert torch.equal(problem.loss(), expected)
    assert same(everything(case.model), before)
