import copy

import pytest
import torch
from cases import everything, make, normal, same
from snapshots import recorded
from torch.nn import functional as F

from landscape.slices import Recorder, pca_directions, project_trajectory
from landscape.storage.results import Trajectory


@pytest.mark.parametrize("cosine", [0.0, 0.9])
def test_coordinates_and_distance_are_the_planted_ones(tmp_path, cosine):
    e1, e2, e3 = torch.linalg.qr(normal(51, 3))[0].T
    d1, d2 = 2 * e1, 3 * (cosine * e1 + (1 - cosine**2) ** 0.5 * e2)
    planted = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.7, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    offsets = planted @ torch.stack([d1, d2, e3])
    problem, recorder = recorded(tmp_path, offsets)
    found = project_trajectory(problem, recorder, d1, d2, progress=False)
    assert found.steps.tolist() == [0, 1, 2]
    torch.testing.assert_close(found.coordinates, planted[:, :2], rtol=0.0, atol=1e-13)
    torch.testing.assert_close(found.off_plane, planted[:, 2], rtol=0.0, atol=1e-13)
    torch.testing.assert_close(found.distance, offsets.norm(dim=1), rtol=1e-12, atol=0.0)
    spread = offsets.square().sum()
    expected = torch.stack([(offsets @ e).square().sum() / spread for e in (e1, e2)])
    torch.testing.assert_close(found.explained, expected)


def test_along_principal_components_it_is_explained_as_they_say(tmp_path):
    problem, recorder = recorded(tmp_path, normal(6, 51))
    (d1, d2), explained = pca_directions(problem, recorder)
    found = project_trajectory(problem, recorder, d1, d2, {}, progress=False)
    torch.testing.assert_close(found.explained, explained)
    assert found.loss == {}


@pytest.mark.parametrize("policy", ["eval", "batch", "recompute"])
def test_the_loss_is_the_snapshots_own_with_its_batch_norm(tmp_path, policy):
    case = make("conv_bn")
    recorder = Recorder(case.model, tmp_path)
    optimizer = torch.optim.SGD(case.model.parameters(), lr=0.2)
    case.model.train()
    copies = [copy.deepcopy(case.model)]
    for inputs, targets in case.batches:
        optimizer.zero_grad()
        F.cross_entropy(case.model(inputs), targets).backward()
        optimizer.step()
        recorder.step()
        copies.append(copy.deepcopy(case.model))
    problem, before = case.problem(batch_norm=policy), everything(case.model)
    data = {"train": case.batches, "test": case.batches[1:]}
    size = problem.size
    found = project_trajectory(problem, recorder, normal(size), normal(size, seed=1), data, progress=False)
    for split, batches in data.items():
        for model, loss in zip(copies, found.loss[split].tolist(), strict=True):
            case_there = copy.copy(case)
            object.__setattr__(case_there, "model", model)
            there = case_there.problem(batch_norm=policy)
            buffers = there.statistics(there.vector())
            own = there.with_data(batches).mean(lambda batch: batch.loss(batch.w), buffers=buffers)
            assert loss == pytest.approx(float(own), rel=1e-12)
    assert same(everything(case.model), before)


def test_it_is_saved_and_loaded(tmp_path):
    problem, recorder = recorded(tmp_path / "snapshots", normal(3, 51))
    found = project_trajectory(problem, recorder, normal(51), normal(51, seed=1), progress=False)
    back = Trajectory.load(found.save(tmp_path / "trajectory"))
    assert torch.equal(back.coordinates, found.coordinates)
    assert torch.equal(back.loss["train"], found.loss["train"])


def test_parallel_directions_are_an_error(tmp_path):
    problem, recorder = recorded(tmp_path, normal(3, 51))
    with pytest.raises(ValueError, match="direction 2 must not lie in the span"):
        project_trajectory(problem, recorder, normal(51), 2 * normal(51))
