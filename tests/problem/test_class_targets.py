from functools import partial

import pytest
import torch
from cases import make
from torch import nn
from torch.nn import functional as F

from landscape.problem import Problem
from landscape.problem.class_targets import ClassTargets
from landscape.slices import interpolate, path_losses, slice_1d, slice_2d, straight_path

GENERATOR = torch.Generator().manual_seed(0)
TOKENS = torch.randint(5, (4, 7), generator=GENERATOR)  # (B, T) of 5 classes


def scores(problem_outputs: torch.Tensor, targets: torch.Tensor, criterion, **settings) -> Problem:
    """A network that gives these outputs, in two batches."""
    data = list(zip(problem_outputs.tensor_split(2), targets.tensor_split(2), strict=True))
    return Problem(nn.Linear(1, 1), criterion, data, forward=lambda model, x: x + 0 * model.bias, **settings)


def random_scores(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def accuracy(problem: Problem, **settings) -> tuple[float, str | None]:
    """In the middle of a slice, and why it is NaN."""
    line = slice_1d(problem, torch.ones(2), (0.0, 1.0, 2), progress=False, **settings)
    return float(line.accuracy["train"][0]), (line.details["no_accuracy"] or {}).get("train")


def hits(outputs: torch.Tensor, targets: torch.Tensor, counted: torch.Tensor) -> float:
    """Outputs (..., C): the share of the counted targets that are the largest output."""
    return float((outputs.argmax(-1) == targets)[counted].double().mean())


def flattened(z: torch.Tensor, y: torch.Tensor, **settings) -> torch.Tensor:
    return F.cross_entropy(z.flatten(0, -2), y.flatten(), **settings)


def focal(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = z.flatten(0, -2).softmax(-1).gather(1, y.reshape(-1, 1))
    return (-((1 - p) ** 2) * p.log()).mean()


class Wrapped(nn.Module):
    """As libraries have it: a module that holds another one, with a weight for each class."""

    def __init__(self, ignore: int) -> None:
        super().__init__()
        self.inner = nn.CrossEntropyLoss(torch.rand(5, generator=GENERATOR) + 0.5, ignore_index=ignore)

    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.3 * self.inner(z.transpose(1, 2), y) + 1.0


class Shifted(nn.CrossEntropyLoss):
    def forward(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return super().forward(z[:, :-1].flatten(0, 1), y[:, 1:].flatten())


LAST = {  # criteria on outputs (B, T, C)
    "function": (flattened, None),
    "smoothing": (lambda z, y: flattened(z, y, label_smoothing=0.1), None),
    "nll": (lambda z, y: F.nll_loss(z.log_softmax(-1).transpose(1, 2), y), None),
    "focal": (focal, None),
    "padding 0": (lambda z, y: flattened(z, y, ignore_index=0), 0),
    "255": (lambda z, y: flattened(z, y, ignore_index=255), 255),
    "-100": (flattened, -100),
    "wrapper": (Wrapped(-1), -1),
    "partial": (partial(flattened, ignore_index=3), 3),
}


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize("classes", [5, 7])  # 7: as many as there are tokens, so that the shapes do not tell the axis
def test_accuracy_over_tokens_is_that_of_the_targets_that_count(name: str, classes: int) -> None:
    criterion, ignored = LAST[name]
    if name == "wrapper" and classes == 7:
        pytest.skip("it has five weights")
    targets, outputs = TOKENS.clone(), random_scores(4, 7, classes)
    if ignored is not None:
        targets[1:, 4:] = ignored
    mark = -100 if ignored is None else ignored
    found, why = accuracy(scores(outputs, targets, criterion, weight=lambda _, y: (y != mark).sum()))
    assert found == pytest.approx(hits(outputs, targets, targets != ignored), rel=1e-15)
    assert why is None


@pytest.mark.parametrize(
    "criterion",
    [
        partial(F.cross_entropy, ignore_index=255),
        partial(partial(F.cross_entropy, ignore_index=1), ignore_index=255),
        nn.CrossEntropyLoss(ignore_index=255),
        lambda z, y: F.cross_entropy(z, y, ignore_index=255),
    ],
)
def test_ignored_pixels_do_not_count(criterion) -> None:
    targets = torch.randint(3, (4, 6, 3), generator=torch.Generator().manual_seed(2))
    outputs = random_scores(4, 3, 6, 3)  # as many classes as there are columns
    targets[:, :3] = 255
    found, _ = accuracy(scores(outputs, targets, criterion))
    assert found == pytest.approx(hits(outputs.movedim(1, -1), targets, targets != 255), rel=1e-15)


def shift_by_hand(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return flattened(z[:, :-1], y[:, 1:])


@pytest.mark.parametrize(
    ("criterion", "targets"),
    [
        (shift_by_hand, TOKENS),
        (Shifted(), TOKENS),
        (shift_by_hand, torch.full((4, 7), 2)),  # only the last output, at which nothing looks, gives it away
        (lambda z, y: flattened(z, (y + 1) % 5), TOKENS),
        (lambda z, y: flattened(z.flip(1), y), TOKENS),
    ],
)
def test_no_accuracy_where_the_criterion_wants_other_targets(criterion, targets: torch.Tensor) -> None:
    found, why = accuracy(scores(random_scores(4, 7, 5), targets, criterion))
    assert found != found
    assert "it may shift the targets" in why
    assert "pass accuracy=" in why


def test_no_accuracy_where_uniform_outputs_make_a_shift_look_like_none() -> None:
    """The losses of both are log C there; the decision must not hang on where the network is."""
    found, _ = accuracy(scores(torch.zeros(4, 7, 5), TOKENS, shift_by_hand))
    assert found != found


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (lambda z, y: 2 * F.cross_entropy(z, y), True),
        (lambda z, y: F.cross_entropy(z, y, ignore_index=1) + 1.0, "but 1"),
        (lambda z, y: 0.5 * F.multi_margin_loss(z, y), True),
        (lambda z, y: F.mse_loss(z.softmax(1), F.one_hot(y, 5).float()), True),
        (lambda z, y: F.cross_entropy(z, y, reduction="none").topk(3).values.mean(), True),  # hard examples only
        (lambda z, y: (z.argmax(1) != y).float().mean() + 0 * z.detach().sum(), True),  # no gradient: shapes alone
        (lambda z, y: F.cross_entropy(z[:-1], y[1:]), False),
        (lambda z, y: (F.normalize(z) @ F.normalize(z).T).mean(), False),  # contrastive: z are no classes
    ],
)
def test_one_target_a_sample(criterion, expected: bool | str) -> None:
    ignores = expected == "but 1"
    targets, outputs = TOKENS.flatten().clone(), random_scores(28, 5)
    found, _ = accuracy(scores(outputs, targets, criterion))
    counted = targets != 1 if ignores else torch.ones_like(targets, dtype=torch.bool)
    true = hits(outputs, targets, counted)
    assert found == pytest.approx(true, rel=1e-15) if expected else found != found


def test_a_target_that_is_no_class_and_not_known_to_be_ignored_makes_it_nan() -> None:
    targets = TOKENS.flatten().clone()
    targets[:2] = 77
    found, why = accuracy(scores(random_scores(28, 5), targets, lambda z, y: (z.argmax(1) != y).float().mean()))
    assert found != found
    assert "pass accuracy=" in why


@pytest.mark.parametrize("targets", [torch.rand(28), torch.rand(28, 5).softmax(1)])
def test_targets_that_are_no_classes(targets: torch.Tensor) -> None:
    def criterion(z, y):
        return F.cross_entropy(z, y) if y.ndim == 2 else F.mse_loss(z[:, 0], y)

    for each in (criterion, F.cross_entropy)[: targets.ndim]:
        found, why = accuracy(scores(random_scores(28, 5), targets, each))
        assert found != found
        assert "no classes" in why


def test_the_model_and_a_penalty_on_it_do_not_matter() -> None:
    case = make("mlp")
    penalised = Problem(case.model, lambda z, y: F.cross_entropy(z, y) + case.model[0].weight.norm(), case.batches)
    found = [
        slice_1d(p, p.vector(), (-1.0, 1.0, 3), progress=False).accuracy["train"] for p in (penalised, case.problem())
    ]
    assert torch.equal(*found)


# ------------------------------------------------------------- the user's own


def next_token(z: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
    return (z[:, :-1].argmax(-1) == y[:, 1:]).sum(), y[:, 1:].numel()


def share(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    hit, of = next_token(z, y)
    return hit / of


@pytest.mark.parametrize("own", [next_token, share])
def test_the_users_count_is_taken_by_all_that_count(own, tmp_path) -> None:
    outputs = random_scores(4, 7, 5)
    problem = scores(outputs, TOKENS, shift_by_hand)
    true = hits(outputs[:, :-1], TOKENS[:, 1:], torch.ones(4, 6, dtype=torch.bool))
    w, d = problem.vector(), torch.ones(2)
    quick = {"accuracy": own, "progress": False}
    found = [
        slice_1d(problem, d, (0.0, 1.0, 2), **quick),
        slice_1d(problem, [d, -d], (0.0, 1.0, 2), **quick),
        slice_2d(problem, d, torch.tensor([1.0, -1.0]), (0.0, 1.0, 2), (0.0, 1.0, 2), **quick),
        interpolate(problem, w + d, (0.0, 1.0, 2), **quick),
        path_losses(problem, straight_path(problem, w + d), 2, **quick),
    ]
    for result in found:
        values = result.accuracy["train"]
        torch.testing.assert_close(values, torch.full_like(values, true), rtol=1e-6, atol=0.0)
        assert result.details["no_accuracy"] is None


def linear_next_token(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x + 0 * model.bias


def test_workers_count_alike() -> None:
    data = [(random_scores(4, 7, 5), TOKENS)]
    problem = Problem(nn.Linear(1, 1), shift_by_hand, data, forward=linear_next_token)
    alone, together = (
        slice_1d(problem, torch.ones(2), (0.0, 1.0, 3), accuracy=next_token, workers=n, progress=False) for n in (1, 2)
    )
    assert torch.equal(alone.accuracy["train"], together.accuracy["train"])
    assert float(alone.accuracy["train"][0]) > 0


def test_a_checkpoint_counted_otherwise_is_refused(tmp_path) -> None:
    problem, file = scores(random_scores(4, 7, 5), TOKENS, shift_by_hand), tmp_path / "walk.jsonl"
    settings = {"resume": file, "progress": False}
    slice_1d(problem, torch.ones(2), (0.0, 1.0, 2), accuracy=next_token, **settings)
    with pytest.raises(ValueError, match="accuracy"):
        slice_1d(problem, torch.ones(2), (0.0, 1.0, 2), accuracy=share, **settings)


@pytest.mark.parametrize("found", ["much", (1, 2, 3), 1.5, (3, 2), None, torch.ones(3)])
def test_what_is_no_count_is_refused(found) -> None:
    with pytest.raises(ValueError, match="accuracy must give"):
        accuracy(scores(random_scores(4, 7, 5), TOKENS, shift_by_hand), accuracy=lambda z, y: found)


def test_what_is_known_of_torchs_own_criteria() -> None:
    known = ClassTargets(nn.NLLLoss(ignore_index=7))
    assert (known.axis, known.ignored, known.settled) == (1, {7}, True)
    assert not ClassTargets(Shifted()).settled
    assert not ClassTargets(partial(F.cross_entropy, torch.ones(2, 2))).settled
