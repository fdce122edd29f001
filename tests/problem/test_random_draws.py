import random

import numpy as np
import pytest
import torch
from cases import Record, normal, seeded
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from landscape.curvature import fisher, ggn, hessian
from landscape.metrics import surrogate_gap
from landscape.problem import Problem
from landscape.slices import slice_1d, slice_2d

SIZES = (6, 6, 4)


def random_of(source):
    """A random number of that source."""
    if source == "torch":
        return torch.randn((), dtype=torch.float64)
    return np.random.randn() if source == "numpy" else random.gauss(0, 1)


class Noted(nn.Module):
    """A network whose layer is disturbed by a random number, which it notes."""

    def __init__(self, source):
        super().__init__()
        self.first, self.head = nn.Linear(4, 5), nn.Linear(5, 2)
        self.source, self.drawn = source, Record()

    def forward(self, x):
        self.drawn.append(float(random_of(self.source)) if self.source else 0.0)
        return self.head(torch.tanh(self.first(x) * (1 + 0.5 * self.drawn[-1])))


def noisy(inside, outside, **settings):
    """A regression with a random number of source `inside` in forward and of source `outside` in the criterion."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Noted(inside).double()
    x, t = normal(6, 4, seed=1), normal(6, 2, seed=2)
    data = [(x[:n], t[:n]) for n in SIZES]  # the first two batches are the same
    noise = (lambda: random_of(outside)) if outside else (lambda: 0.0)
    return Problem(net, lambda z, t: F.mse_loss(z, t + noise()), data, **settings)


SOURCES = [(inside, None) for inside in ("torch", "numpy", "python")] + [
    (None, "torch"), (None, "numpy"), (None, "python"), ("numpy", "torch"), ("torch", "torch"),
]  # fmt: skip


def slope(function, w, v, h=1e-4):
    """f'(w) v by Richardson's extrapolation."""

    def central(h):
        return (function(w + h * v) - function(w - h * v)) / (2 * h)

    return (4 * central(h) - central(2 * h)) / 3


@pytest.mark.parametrize(("inside", "outside"), SOURCES)
def test_a_random_loss_is_one_function(inside, outside):
    problem = noisy(inside, outside)
    w, v = problem.vector(), normal(problem.size, seed=3) / problem.size**0.5
    gradient = problem.gradient()
    torch.testing.assert_close(gradient @ v, slope(problem.loss, w, v), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(hessian(problem) @ v, slope(problem.gradient, w, v), rtol=1e-8, atol=1e-9)
    # mean squared error over two outputs: C = 1 / n for each sample, so that G = JᵀJ / n over n samples
    along = slope(problem.outputs, w, v)
    n, G = sum(SIZES), ggn(problem)
    torch.testing.assert_close(v @ (G @ v), along.square().sum() / n, rtol=1e-8, atol=0)
    torch.testing.assert_close(fisher(problem) @ v, G @ v, rtol=1e-12, atol=1e-14)
    line = slice_1d(problem, v, x=(-1, 1, 3), progress=False).loss["train"]
    plane = slice_2d(problem, v, w, x=(-1, 1, 3), y=(0, 0.1, 2), progress=False).loss["train"]
    expected = torch.stack([problem.loss(w + a * v) for a in (-1, 0, 1)])
    torch.testing.assert_close(torch.as_tensor(line), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.as_tensor(plane[0]), expected, rtol=1e-12, atol=0)
    assert line[1] == problem.loss() == problem.loss_and_gradient()[0]
    assert torch.equal(problem.gradient(), gradient)


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
def test_batches_have_draws_of_their_own_and_the_same_ones_at_each_evaluation(source):
    problem = noisy(source, None)
    problem.loss()
    net, H, found = problem.model, hessian(problem, verify=False), []
    for call in (problem.loss, problem.gradient, problem.outputs, lambda: H @ H.w):
        net.drawn.clear()
        call()
        found.append(net.drawn[-len(SIZES) :])
    assert len(set(found[0])) == len(SIZES)
    assert found[0] == found[1] == found[2]
    assert set(found[3]) <= set(found[0])  # a batch may be run more than once
    other = problem.with_draws(1)
    net.drawn.clear()
    other.loss()
    assert not set(net.drawn) & set(found[0])


@pytest.mark.parametrize(("inside", "outside"), [("torch", "numpy"), ("python", "torch")])
def test_the_global_seeds_decide_nothing_and_stay(inside, outside):
    def answers(problem):
        v = problem.vector()
        return [problem.loss(), problem.gradient(), hessian(problem) @ v, ggn(problem) @ v, problem.outputs()]

    found = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            before = random.getstate(), np.random.get_state()
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            states = torch.get_rng_state(), random.getstate(), np.random.get_state()
            found.append(answers(noisy(inside, outside)))
            assert torch.equal(torch.get_rng_state(), states[0])
            assert random.getstate() == states[1]
            assert all(map(np.array_equal, np.random.get_state(), states[2]))
            random.setstate(before[0])
            np.random.set_state(before[1])
    assert all(map(torch.equal, *found))


def test_draws_is_the_seed():
    first, same, other = (noisy("torch", "numpy", draws=draws) for draws in (None, 0, 5))
    assert first.loss() == same.loss() == other.with_draws(0).loss()
    assert other.loss() == first.with_draws(5).loss()
    assert abs(other.loss() - first.loss()) > 1e-3 * first.loss()
    with pytest.raises(ValueError, match="draws must be an integer at least 0, got -1"):
        noisy("torch", None, draws=-1)


class Augmented(Dataset):
    """A sample is another one each time it is read."""

    def __len__(self):
        return 16

    def __getitem__(self, i):
        noise = torch.rand(()).double() + random.random() + np.random.rand()
        return normal(4, seed=i) + noise, i % 2


LOADERS = {
    "shuffled": lambda: DataLoader(
        TensorDataset(normal(16, 4, seed=1), torch.arange(16) % 2), batch_size=8, shuffle=True
    ),
    "augmented": lambda: DataLoader(Augmented(), batch_size=8),
    "both": lambda: DataLoader(Augmented(), batch_size=8, shuffle=True, generator=seeded(3)),
}


@pytest.mark.parametrize("draws_inside", [False, True])
@pytest.mark.parametrize("name", LOADERS)
def test_the_data_is_the_same_at_each_pass(name, draws_inside):
    net, seen = nn.Linear(4, 2).double(), []

    def forward(model, x):
        seen.append(x.clone())
        return model(x) + (torch.rand(len(x), 2).double() if draws_inside else 0)

    problem = Problem(net, F.cross_entropy, LOADERS[name](), forward=forward)
    v = problem.vector()
    problem.loss()
    passes = []
    for call in (problem.loss, problem.gradient, problem.outputs):
        seen.clear()
        call()
        passes.append(torch.cat(seen[-2:]))
    assert torch.equal(passes[0], passes[1])
    assert torch.equal(passes[0], passes[2])
    w, H = problem.vector(), hessian(problem)
    torch.testing.assert_close(H @ v, slope(problem.gradient, w, v), rtol=1e-8, atol=1e-9)
    assert torch.equal(hessian(problem) @ v, H @ v)
    torch.testing.assert_close(problem.gradient() @ v, slope(problem.loss, w, v), rtol=1e-8, atol=1e-9)


# --- the expectation over the draws


class Times(nn.Module):
    """z = t w with t ~ N(0, 1) for each sample: E z² / 2 = w² / 2."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def forward(self, x):
        return self.weight * torch.randn(len(x), dtype=torch.float64)


def squares(**settings):
    data = [(torch.zeros(n), torch.zeros(n)) for n in (40, 24)]
    return Problem(Times(), lambda z, _: z.square().mean() / 2, data, **settings)


def test_the_error_of_over_draws_covers_in_nine_of_ten_runs():
    n, truth, held = 6, 1.3**2 / 2, 0
    for run in range(200):
        found = squares(draws=run * n).over_draws(n)
        held += abs(float(found.value) - truth) <= 1.96 * float(found.stderr)
    print(f"over_draws({n}): the interval held the expectation in {held / 2:.1f} % of 200 runs")  # noqa: T201
    assert held >= 180


def test_over_draws_of_other_quantities():
    problem, n = squares(), 60
    w = problem.vector()
    curvature = problem.over_draws(n, lambda p: (hessian(p, verify=False) @ w)[0] / w[0])  # E t² = 1
    assert abs(float(curvature.value) - 1) < 4 * float(curvature.stderr) < 0.15
    gradient = problem.over_draws(n, Problem.gradient)  # E t² w
    assert gradient.value.shape == gradient.stderr.shape == (1,)
    assert abs(float(gradient.value) - 1.3) < 4 * float(gradient.stderr) < 0.2
    gap = problem.over_draws(n, lambda p: surrogate_gap(p, rho=0.5))  # E t² ((w + rho)² − w²) / 2
    assert abs(float(gap.value) - (1.8**2 - 1.3**2) / 2) < 4 * float(gap.stderr) < 0.15


def test_over_draws_are_those_of_neighbouring_seeds():
    problem = squares(draws=7)
    losses = torch.stack([squares(draws=7 + i).loss() for i in range(4)])
    torch.testing.assert_close(problem.over_draws(4).value, losses.mean(), rtol=1e-14, atol=0)
    assert len(set(losses.tolist())) == 4
    plain = Problem(nn.Linear(2, 2), F.mse_loss, [(torch.ones(3, 2), torch.ones(3, 2))])
    assert plain.over_draws(3).stderr == 0
    with pytest.raises(ValueError, match="n must be an integer at least 2, got 1"):
        problem.over_draws(1)
