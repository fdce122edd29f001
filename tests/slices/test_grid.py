import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape.problem import Problem
from landscape.slices import random_directions, slice_1d, slice_2d


def classifier(batch_norm: str = "eval", dtype=torch.float64) -> tuple[Problem, dict]:
    """A small net with batch norm and dropout on unequal batches; and a test split of another size."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3)).to(dtype)
    x, y = torch.randn(25, 4, dtype=dtype), torch.randint(3, (25,))
    train = [(x[:11], y[:11]), (x[11:14], y[11:14])]
    test = [(x[14:23], y[14:23]), (x[23:], y[23:])]
    model(x)  # statistics other than (0, 1)
    return Problem(model, F.cross_entropy, train, batch_norm=batch_norm), {"train": train, "test": test}


def affine() -> Problem:
    """A loss that is affine in the weights: mean of w·x + b."""
    torch.manual_seed(1)
    inputs = torch.randn(9, 5, dtype=torch.float64)
    data = [(inputs[:6], torch.zeros(6)), (inputs[6:], torch.zeros(3))]
    return Problem(nn.Linear(5, 1).double(), lambda outputs, _: outputs.mean(), data)


def moved_copy(problem: Problem, w: torch.Tensor) -> nn.Module:
    model = copy.deepcopy(problem.model).eval()
    torch.nn.utils.vector_to_parameters(w, model.parameters())
    return model


def test_every_point_equals_a_moved_copy_of_the_model():
    problem, data = classifier()
    d1, d2 = random_directions(problem)
    surface = slice_2d(problem, d1, d2, (-1.0, 2.0, 4), (-0.5, 0.5, 3), data)
    assert surface.loss["test"].shape == surface.accuracy["train"].shape == (3, 4)
    for split, batches in data.items():
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        for j, up in enumerate([-0.5, 0.0, 0.5]):
            for i, across in enumerate([-1.0, 0.0, 1.0, 2.0]):
                with torch.no_grad():
                    outputs = moved_copy(problem, problem.vector() + across * d1 + up * d2)(x)
                hits = (outputs.argmax(1) == y).double().mean()
                torch.testing.assert_close(surface.loss[split][j, i], F.cross_entropy(outputs, y), rtol=1e-12, atol=0.0)
                torch.testing.assert_close(surface.accuracy[split][j, i], hits, rtol=1e-15, atol=0.0)


def test_an_affine_loss_has_no_second_difference_in_any_row_or_column():
    problem = affine()
    d1, d2 = random_directions(problem, normalize=None, ignore=None)
    z = slice_2d(problem, d1, d2, (-1.0, 1.0, 9), (-2.0, 1.0, 7)).loss["train"]
    assert z.diff(n=2, dim=0).abs().max() < 1e-12
    assert z.diff(n=2, dim=1).abs().max() < 1e-12
    assert z.diff(dim=0).diff(dim=1).abs().max() < 1e-12  # alternate rows walked one cell off would show here
    slope = problem.gradient()
    torch.testing.assert_close(z[0, 1] - z[0, 0], 0.25 * (slope @ d1), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(z[1, 0] - z[0, 0], 0.5 * (slope @ d2), rtol=1e-10, atol=1e-14)


def test_a_line_is_the_middle_row_of_the_plane_and_labels_are_where_it_walked():
    problem, _ = classifier()
    d1, d2 = random_directions(problem)
    line = slice_1d(problem, d1, (-1.0, 1.0, 5))
    plane = slice_2d(problem, d1, d2, (-1.0, 1.0, 5), (-1.0, 1.0, 3))
    assert torch.equal(line.loss["train"], plane.loss["train"][1])
    assert torch.equal(line.accuracy["train"], plane.accuracy["train"][1])
    for x, loss in zip(line.x.tolist(), line.loss["train"], strict=True):
        torch.testing.assert_close(loss, problem.loss(problem.vector() + x * d1), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("policy", ["eval", "batch", "recompute"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_centre_is_the_models_own_loss(policy, dtype):
    problem, _ = classifier(policy, dtype)
    d1, d2 = random_directions(problem)
    surface = slice_2d(problem, d1, d2, (-1, 1, 3), (-1, 1, 5))
    assert surface.x[1] == surface.y[2] == 0
    loss = problem.loss().double()
    torch.testing.assert_close(surface.loss["train"][2, 1], loss, rtol=4 * torch.finfo(dtype).eps, atol=0.0)
    assert surface.loss["train"].dtype == surface.accuracy["train"].dtype == torch.float64


def test_recomputed_statistics_are_those_of_the_displaced_network_on_the_problems_data():
    problem, data = classifier("recompute")
    (d,) = random_directions(problem, 1)
    line = slice_1d(problem, d, (0.0, 1.0, 2), data)
    moved = Problem(moved_copy(problem, problem.vector() + d), F.cross_entropy, problem.data, batch_norm="recompute")
    test = moved.with_data(data["test"])
    assert line.loss["train"][1] == moved.loss()
    with torch.no_grad():
        expected = test.mean(lambda batch: batch.loss(batch.w), buffers=moved.statistics(moved.vector()))
    assert line.loss["test"][1] == expected
    assert line.loss["test"][1] != test.loss()  # not the test split's own statistics


def test_interpolation_reaches_the_other_end():
    problem, _ = classifier()
    other = torch.randn(problem.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    line = slice_1d(problem, other - problem.vector(), (-0.5, 1.5, 401))
    assert line.x[100] == 0
    assert line.x[300] == 1
    assert (line.x[0], line.x[-1]) == (-0.5, 1.5)
    torch.testing.assert_close(line.loss["train"][300], problem.loss(other), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(("low", "high"), [(-0.7, 0.7), (-1.0, 1.0), (-0.3, 0.3), (0.1, 0.7)])
def test_a_range_keeps_its_ends_and_its_middle(low, high):
    line = slice_1d(affine(), affine().vector(), (low, high, 7))
    assert (line.x[0], line.x[-1]) == (low, high)
    assert line.x[3] == (0.0 if low == -high else pytest.approx((low + high) / 2, rel=1e-15))
    torch.testing.assert_close(line.x.diff(), torch.full((6,), (high - low) / 6, dtype=torch.float64))


def test_one_point():
    assert slice_1d(affine(), affine().vector(), (0.0, 1.0, 1)).x.tolist() == [0.0]


def test_nothing_is_left_behind():
    problem, data = classifier("recompute")
    problem.model[0].train()
    problem.model[2].eval()
    before = copy.deepcopy(problem.model.state_dict())
    flags = [m.training for m in problem.model.modules()]
    state = torch.get_rng_state()
    slice_2d(problem, *random_directions(problem), (-1.0, 1.0, 3), (-1.0, 1.0, 3), data)
    assert all(torch.equal(value, before[name]) for name, value in problem.model.state_dict().items())
    assert [m.training for m in problem.model.modules()] == flags
    assert all(p.grad is None and p.requires_grad for p in problem.model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_a_loss_that_is_not_finite_stays_and_the_walk_goes_on():
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
    data = [(torch.ones(2, 1, dtype=torch.float64), torch.zeros(2))]
    problem = Problem(model, lambda outputs, _: outputs.log().mean(), data)
    line = slice_1d(problem, torch.ones(1, dtype=torch.float64), (-2.0, 1.0, 4))
    assert line.loss["train"].isnan().tolist() == [True, False, False, False]  # log of -1, 0, 1, 2
    assert line.loss["train"][1] == -math.inf
    torch.testing.assert_close(line.loss["train"][2:], torch.tensor([0.0, math.log(2.0)]).double(), rtol=1e-7, atol=0.0)


def test_a_nan_prediction_is_no_hit_and_no_miss():
    problem, _ = classifier()
    huge = random_directions(problem, 1)[0] * 1e120
    line = slice_1d(problem, huge, (0.0, 1e200, 2))
    assert line.loss["train"].isnan().tolist() == [False, True]
    assert line.accuracy["train"].isnan().tolist() == [False, True]


# ------------------------------------------------------------------ accuracy


def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Over the class axis that fits, 0 where none does: a criterion of the user's own."""
    if outputs.ndim != targets.ndim + 1 or targets.is_floating_point():
        return 0 * outputs.sum()
    last = outputs.shape[:-1] == targets.shape
    return F.cross_entropy(outputs.movedim(-1, 1) if last else outputs, targets)


def accuracy_of(outputs: torch.Tensor, targets: torch.Tensor, batches: int = 1) -> float:
    """Accuracy in the middle of a slice of a network that gives these outputs."""
    data = list(zip(outputs.tensor_split(batches), targets.tensor_split(batches), strict=True))
    same = {"forward": lambda model, x: x + 0 * model.bias, "weight": lambda _, t: max(int((t != -100).sum()), 1)}
    problem = Problem(nn.Linear(1, 1), cross_entropy, data, **same)
    return float(slice_1d(problem, torch.ones(2), (0.0, 1.0, 2)).accuracy["train"][0])


def one_hot(targets: torch.Tensor, classes: int) -> torch.Tensor:
    return F.one_hot(targets.clamp(min=0), classes).float()


def test_accuracy_counts_targets_not_batches():
    targets = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    outputs = one_hot(targets, 3)
    outputs[-1] = torch.tensor([0.0, 0.0, 1.0])
    assert accuracy_of(outputs, targets, batches=2) == accuracy_of(outputs, targets) == 6 / 7


@pytest.mark.parametrize("class_axis", [1, -1])
def test_the_class_axis_is_told_by_shape_and_padding_does_not_count(class_axis):
    targets = torch.tensor([[0, 3, -100, -100, -100], [1, 2, 3, -100, -100]])  # (B, T)
    outputs = one_hot(targets, 4)  # (B, T, C)
    outputs[1, 2] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    outputs[:, 3:] = torch.nan  # where there is no target, nothing is asked of the output
    assert accuracy_of(outputs.movedim(-1, class_axis), targets, batches=2) == 4 / 5


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 2)),  # regression
        (torch.zeros(4, 1), torch.zeros(4)),
        (torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.long)),  # one-hot targets
        (torch.zeros(4, 1), torch.zeros(4, dtype=torch.long)),  # one output is no choice
        (torch.zeros(4, 2), torch.full((4,), -100)),  # nothing to hit
    ],
)
def test_accuracy_is_nan_without_class_targets(outputs, targets):
    assert math.isnan(accuracy_of(outputs, targets))


# ---------------------------------------------------------------- checkpoint


class KilledError(Exception):
    pass


def counting(problem: Problem, limit: float = math.inf) -> tuple[Problem, list[int]]:
    """The same problem, with its passes counted; it dies at pass `limit`."""
    calls = [0]

    def criterion(outputs, targets):
        calls[0] += not outputs.requires_grad  # else it is asked which class it draws an output to
        if calls[0] > limit * len(problem.data):
            raise KilledError
        return F.cross_entropy(outputs, targets)

    return Problem(problem.model, criterion, problem.data, weight=lambda _, t: len(t)), calls


def test_a_killed_walk_goes_on_where_it_stopped(tmp_path):
    problem, _ = classifier()
    d1, d2 = random_directions(problem)
    grid = (-1.0, 1.0, 4), (-1.0, 1.0, 3)
    path = tmp_path / "deep" / "walk.jsonl"
    dying, _ = counting(problem, limit=6)
    with pytest.raises(KilledError):
        slice_2d(dying, d1, d2, *grid, resume=path)
    assert len(path.read_text().splitlines()) == 1 + 5  # settings; one of the six passes was the centre's
    going_on, calls = counting(problem)
    resumed = slice_2d(going_on, d1, d2, *grid, resume=path)
    assert calls[0] == (1 + 12 - 5) * len(problem.data)
    whole = slice_2d(counting(problem)[0], d1, d2, *grid)
    assert torch.equal(resumed.loss["train"], whole.loss["train"])
    assert torch.equal(resumed.accuracy["train"], whole.accuracy["train"])
    assert [p.name for p in path.parent.iterdir()] == ["walk.jsonl"]


def test_points_that_are_nan_are_done(tmp_path):
    problem, _ = classifier()
    passes = [0]

    def nan(outputs, targets):
        passes[0] += not outputs.requires_grad
        return outputs.sum() * torch.nan

    broken = Problem(problem.model, nan, problem.data, weight=lambda _, t: len(t))
    d1, d2 = random_directions(problem)
    for _ in range(2):
        surface = slice_2d(broken, d1, d2, (-1.0, 1.0, 2), (-1.0, 1.0, 2), resume=tmp_path / "walk.jsonl")
    assert surface.loss["train"].isnan().all()
    assert passes[0] == (1 + 4 + 1) * len(problem.data)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda p, d1, d2: (p, d1, d2, (-1.0, 1.0, 3)), "other y;"),
        (lambda p, d1, d2: (p, d2, d1, (-1.0, 1.0, 2)), "other d1, d2;"),
        (lambda p, d1, d2: (p.with_data(p.data[:1]), d1, d2, (-1.0, 1.0, 2)), "other data or criterion;"),
        (
            lambda p, d1, d2: (
                Problem(moved_copy(p, p.vector() + d1), F.cross_entropy, p.data),
                d1,
                d2,
                (-1.0, 1.0, 2),
            ),
            "other weights;",
        ),
    ],
)
def test_a_checkpoint_of_another_walk_is_refused(tmp_path, change, named):
    problem, _ = classifier()
    d1, d2 = random_directions(problem)
    path = tmp_path / "walk.jsonl"
    slice_2d(problem, d1, d2, (-1.0, 1.0, 2), (-1.0, 1.0, 2), resume=path)
    before = path.read_bytes()
    other, a, b, y = change(problem, d1, d2)
    with pytest.raises(ValueError, match=named) as error:
        slice_2d(other, a, b, (-1.0, 1.0, 2), y, resume=path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"PK\x03\x04 half a file", b"text", b"text\n", b"[1]\n"])
def test_a_broken_checkpoint_is_named(tmp_path, content):
    problem, _ = classifier()
    path = tmp_path / "walk.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"walk.jsonl holds something else .*: name a new file"):
        slice_2d(problem, *random_directions(problem), resume=path)


# ---------------------------------------------------------------- validation


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        (torch.zeros(6, dtype=torch.float64), "d2 must be finite and not zero, got norm 0.0"),
        (torch.full((6,), torch.nan, dtype=torch.float64), "d2 must be finite and not zero, got norm nan"),
        (torch.ones(5, dtype=torch.float64), "d2 must be (6,) float64 on cpu, got (5,) float64 on cpu"),
        (torch.ones(6), "d2 must be (6,) float64 on cpu, got (6,) float32 on cpu"),
    ],
)
def test_a_direction_that_does_not_fit_is_named(direction, message):
    problem = affine()
    with pytest.raises(ValueError, match="must be") as error:
        slice_2d(problem, problem.vector(), direction)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ((1.0, -1.0, 5), "x must rise from first to last, got 1.0 to -1.0"),
        ((0.0, math.inf, 5), "x must rise from first to last, got 0.0 to inf"),
        ((-1.0, 1.0, 0), "x: the number of points must be an integer at least 1, got 0"),
    ],
)
def test_an_empty_range_is_named(x, message):
    with pytest.raises(ValueError, match="must") as error:
        slice_1d(affine(), affine().vector(), x)
    assert str(error.value) == message


def test_data_without_a_split_is_named():
    with pytest.raises(ValueError, match="data must map at least one split"):
        slice_1d(affine(), affine().vector(), data={})


def test_norms_and_cosine_are_those_of_the_directions():
    problem = affine()
    d1 = torch.tensor([3.0, 4.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    d2 = torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    surface = slice_2d(problem, d1, d2, (-1.0, 1.0, 2), (-1.0, 1.0, 2))
    assert surface.norms.tolist() == [5.0, 2.0]
    torch.testing.assert_close(surface.cosine, torch.tensor(0.6, dtype=torch.float64))


def test_the_bar_shows_when_asked_and_not_in_a_log(capsys):
    problem = affine()
    slice_1d(problem, problem.vector(), (-1.0, 1.0, 3))
    assert capsys.readouterr().err == ""
    slice_1d(problem, problem.vector(), (-1.0, 1.0, 3), progress=True)
    assert "3/3" in capsys.readouterr().err
