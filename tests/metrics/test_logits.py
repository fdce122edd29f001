import pytest
import torch
from torch import nn
from torch.nn import functional as F

from landscape.metrics import average_gap, m_sharpness, margin
from landscape.metrics.logits import with_normalized_logits
from landscape.problem import Problem

GENERATOR = torch.Generator().manual_seed(0)
IMAGES, PIXELS = torch.randn(4, 2, 5, 3, generator=GENERATOR), torch.randint(3, (4, 5, 3), generator=GENERATOR)
WORDS, NEXT = torch.randn(4, 3, 2, generator=GENERATOR), torch.randint(3, (4, 3), generator=GENERATOR)  # T = C = 3


def last(z, y):
    return F.cross_entropy(z.flatten(0, -2), y.flatten())


def pixels(criterion=F.cross_entropy, targets=PIXELS) -> Problem:
    torch.manual_seed(0)
    return Problem(nn.Conv2d(2, 3, 1).double(), criterion, (IMAGES.double(), targets))


def words(criterion=last) -> Problem:
    torch.manual_seed(0)
    return Problem(nn.Linear(2, 3).double(), criterion, (WORDS.double(), NEXT))


def by_hand(logits: torch.Tensor, axis: int) -> torch.Tensor:
    centred = logits - logits.mean(axis, keepdim=True)
    return centred / centred.norm(dim=axis, keepdim=True)


@pytest.mark.parametrize(
    ("problem", "axis"),
    [
        (pixels(), 1),
        (pixels(nn.CrossEntropyLoss(ignore_index=0)), 1),
        (pixels(lambda z, y: 2 * F.cross_entropy(z, y)), 1),
        (pixels(targets=F.one_hot(PIXELS, 3).movedim(-1, 1).double()), 1),
        (words(), -1),
        (words(lambda z, y: F.cross_entropy(z.transpose(1, 2), y)), -1),
        (words(F.cross_entropy), 1),
    ],
)
def test_normalised_logits_run_over_classes(problem: Problem, axis: int) -> None:
    torch.testing.assert_close(
        with_normalized_logits(problem).outputs(), by_hand(problem.outputs(), axis), rtol=1e-12, atol=1e-12
    )


def test_pixels_are_samples() -> None:
    """The same network on pixels one by one, (B, C)."""
    whole = pixels()
    flat = (IMAGES.double().movedim(1, -1).reshape(-1, 2), PIXELS.flatten())
    rows = Problem(whole.model, F.cross_entropy, flat, forward=lambda model, x: model(x[:, :, None, None])[:, :, 0, 0])
    for metric in (average_gap, m_sharpness):
        m = {"m": 4} if metric is m_sharpness else {}
        one = metric(whole, rho=0.1, normalize_logits=True, **m).value
        two = metric(rows, rho=0.1, normalize_logits=True, **dict.fromkeys(m, 60)).value
        torch.testing.assert_close(one, two, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize(
    ("forward", "criterion", "said"),
    [
        (
            lambda m, x: m(x)[:, 0, 0, 0],
            lambda z, y: z.mean(),
            r"an axis of classes, got \(4,\) float64; pass forward=",
        ),
        (lambda m, x: {"a": m(x)}, lambda z, y: z["a"].mean(), "got dict; pass forward="),
        (lambda m, x: m(x), lambda z, y: z.mean(), "do not tell it"),
    ],
)
def test_outputs_without_a_known_class_axis_are_refused(forward, criterion, said: str) -> None:
    problem = Problem(nn.Conv2d(2, 3, 1).double(), criterion, (IMAGES.double(), PIXELS), forward=forward)
    with pytest.raises(ValueError, match=said):
        average_gap(problem, normalize_logits=True)


def test_margins_of_pixels_are_those_of_what_counts() -> None:
    targets = PIXELS.clone()
    targets[:, :2] = 255
    problem = pixels(lambda z, y: F.cross_entropy(z, y, ignore_index=255), targets)
    flat = problem.outputs().movedim(1, -1)[targets != 255]
    labels = targets[targets != 255]
    others = flat.masked_fill(F.one_hot(labels, 3).bool(), float("-inf")).amax(1)
    expected = torch.quantile(flat[torch.arange(len(labels)), labels] - others, 0.1)
    torch.testing.assert_close(margin(problem).value, expected, rtol=1e-12, atol=0.0)


def test_margins_with_targets_that_are_no_class() -> None:
    targets = PIXELS.flatten()[:4].clone()
    targets[0] = 9
    problem = Problem(
        nn.Linear(2, 3).double(), lambda z, y: (z.argmax(1) != y).double().mean(), (torch.ones(4, 2).double(), targets)
    )
    with pytest.raises(ValueError, match="margins need targets from 0 to 2, got"):
        margin(problem)


def test_margins_of_shifted_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="it may shift the targets"):
        margin(words(lambda z, y: last(z[:, :-1], y[:, 1:])))
