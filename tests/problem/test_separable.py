import pytest
import torch
from cases import make
from torch import nn
from torch.nn import functional as F

from landscape.curvature import hessian
from landscape.curvature.micro_batches import require_same_in_pieces
from landscape.metrics import m_sharpness
from landscape.problem import Problem
from landscape.problem.separable import require_separable

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(24, 4, generator=GENERATOR).double(), torch.randint(3, (24,), generator=GENERATOR)
TOKENS = torch.where(torch.rand(24, generator=GENERATOR) < 0.5, Y, -100)


def problem(criterion, targets=Y, size: int = 12, **settings) -> Problem:
    torch.manual_seed(0)
    data = list(zip(X.split(size), targets.split(size), strict=True))
    return Problem(nn.Linear(4, 3).double(), criterion, data, **settings)


def infonce(z, _):
    return F.cross_entropy(z @ z.T, torch.arange(len(z)))


def triplet(z, _):
    return F.triplet_margin_loss(z, z.roll(1, 0), z.roll(2, 0))


COUPLED = {
    "infonce": (infonce, Y, {}),
    "triplet": (triplet, Y, {}),
    "class weights": (nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 5.0]).double()), Y, {"weight": lambda x, t: len(t)}),
    "ignored": (F.cross_entropy, TOKENS, {"weight": lambda x, t: len(t)}),
    "random": (lambda z, y: F.cross_entropy(z + torch.randn_like(z), y), Y, {}),
}


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("m", [4, 5, 18])  # below the batch, and across its border
def test_subsets_of_a_loss_that_is_no_mean_over_samples_are_refused(name: str, m: int) -> None:
    criterion, targets, settings = COUPLED[name]
    with pytest.raises(ValueError, match=rf"^m={m} needs a loss that is the mean over single samples.*couples"):
        m_sharpness(problem(criterion, targets, **settings), m=m)


def test_batch_statistics_couple_too() -> None:
    with pytest.raises(ValueError, match="batch statistics"):
        m_sharpness(make("conv_bn").problem(batch_norm="batch"), m=4)


@pytest.mark.parametrize("name", ["infonce", "triplet", "class weights"])
def test_whole_batches_are_not_regrouped(name: str) -> None:
    criterion, targets, settings = COUPLED[name]
    assert m_sharpness(problem(criterion, targets, **settings), m=12, rho=0.1).value > 0


@pytest.mark.parametrize(
    ("criterion", "targets", "settings"),
    [
        (F.cross_entropy, Y, {}),
        (F.cross_entropy, TOKENS, {"weight": lambda x, t: (t != -100).sum()}),
        (F.cross_entropy, TOKENS, {}),
        (nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 5.0]).double()), Y, {}),
        (lambda z, y: z[:, 0].sum() / len(z) - 1e-9, Y, {}),  # differences that cancel
        (lambda z, y: 1e-30 * F.cross_entropy(z, y), Y, {}),
    ],
)
def test_means_over_samples_go_through(criterion, targets, settings) -> None:
    own = problem(criterion, targets, **settings)
    assert torch.isfinite(m_sharpness(own, m=5).value)


def test_the_comparison_is_made_at_w() -> None:
    """A batch of one sample and its opposite: the losses of both parts agree with the whole's at w = 0 alone."""
    x, y = X[:2, :1], Y[:2]
    own = Problem(
        nn.Linear(1, 1, bias=False).double(), lambda z, y: z.mean() ** 2, [(x, y), (x[:1], y[:1]), (x[1:], y[1:])]
    )

    def compare(w: torch.Tensor) -> None:
        with own.batches(w) as batches:
            whole, *parts = batches
            require_separable([whole], parts, "this")

    compare(torch.zeros(1).double())
    with pytest.raises(ValueError, match="this needs"):
        compare(torch.ones(1).double())


@pytest.mark.parametrize("name", COUPLED)
def test_a_batch_is_not_run_in_pieces_where_its_loss_is_another_one(name: str) -> None:
    criterion, targets, settings = COUPLED[name]
    own = problem(criterion, targets, size=24, **settings)
    with pytest.raises(
        ValueError, match=r"^batch 0: micro_batch=7.* needs a loss that is the mean over single samples"
    ):
        hessian(own, micro_batch=7, verify=False) @ own.vector()


def test_out_of_memory_half_of_the_rows_are_compared() -> None:
    """The whole batch does not fit; pieces of 6 are held against pieces of 3."""
    rows = []

    def forward(model, x):
        rows.append(len(x))
        if len(x) > 6:
            raise torch.OutOfMemoryError("no room")
        return model(x)

    own = problem(infonce, size=24, forward=forward)
    with own.batches() as batches, pytest.raises(ValueError, match="the loss couples the samples"):
        require_same_in_pieces(next(batches), 6, own.weight)
    assert rows == [24, 6, 3, 3]
    fine = problem(F.cross_entropy, size=24, forward=forward)
    with fine.batches() as batches:
        require_same_in_pieces(next(batches), 6, fine.weight)
    with own.batches() as batches, pytest.raises(torch.OutOfMemoryError):
        require_same_in_pieces(next(batches), 1, own.weight)  # no smaller pieces are left
