from functools import partial

import pytest
import torch
from cases import normal, seeded
from torch import nn
from torch.nn import functional as F

from landscape.curvature import fisher, hessian
from landscape.problem import Problem
from landscape.problem.units import default_units

SIZES = (7, 4, 1)
WEIGHTS = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def split(x, t):
    return list(zip(x.split(SIZES), t.split(SIZES), strict=True))


def pooled(problem, x, t):
    """Loss, gradient and a Hessian product of the criterion on all the data at once."""
    net, criterion = problem.model, problem.criterion
    own = list(net.parameters())
    loss = criterion(problem.forward(net, x), t)
    slopes = torch.autograd.grad(loss, own, create_graph=True)
    g = torch.cat([slope.flatten() for slope in slopes])
    Hv = torch.autograd.grad(g @ normal(len(g), seed=5), own)
    return loss.detach(), g.detach(), torch.cat([part.flatten() for part in Hv])


def assert_pooled(problem, x, t):
    loss, g, Hv = pooled(problem, x, t)
    torch.testing.assert_close(problem.loss(), loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(problem.gradient(), g, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(hessian(problem) @ normal(problem.size, seed=5), Hv, rtol=1e-9, atol=1e-13)


CLASS_CRITERIA = {
    "plain": nn.CrossEntropyLoss(),
    "weights": nn.CrossEntropyLoss(weight=WEIGHTS),
    "ignored": nn.CrossEntropyLoss(ignore_index=2),
    "both": nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=1),
    "smoothed": nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.1, ignore_index=1),
    "function": F.cross_entropy,
    "partial": partial(F.cross_entropy, weight=WEIGHTS),
    "partial ignored": partial(F.cross_entropy, weight=WEIGHTS, ignore_index=0),
}


@pytest.mark.parametrize("name", CLASS_CRITERIA)
def test_cross_entropy_over_unequal_batches_is_the_pooled_loss(name):
    x, t = normal(12, 4, seed=1), torch.randint(3, (12,), generator=seeded(2))
    problem = Problem(network(), CLASS_CRITERIA[name], split(x, t))
    assert_pooled(problem, x, t)
    if name not in ("plain", "function"):
        wrong = Problem(network(), CLASS_CRITERIA[name], split(x, t)[:2], weight=lambda _, t: len(t))
        assert abs(wrong.loss() - wrong.with_data([(x[:11], t[:11])]).loss()) > 1e-3  # samples would not do


SETTINGS = [{}, {"weight": WEIGHTS}, {"ignore_index": 0}, {"weight": WEIGHTS, "ignore_index": 2}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_negative_log_likelihood(settings):
    x, t = normal(12, 4, seed=1), torch.randint(3, (12,), generator=seeded(2))
    for criterion in (nn.NLLLoss(**settings), partial(F.nll_loss, **settings)):
        problem = Problem(network(), criterion, split(x, t), forward=lambda m, x: m(x).log_softmax(1))
        assert_pooled(problem, x, t)


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=WEIGHTS), F.cross_entropy])
def test_soft_targets_count_as_samples(criterion):
    x, t = normal(12, 4, seed=1), normal(12, 3, seed=2).softmax(1)
    problem = Problem(network(), criterion, split(x, t))
    assert_pooled(problem, x, t)
    assert problem.extent.units == 12


@pytest.mark.parametrize("settings", SETTINGS)
def test_tokens_and_pixels(settings):
    x, t = normal(12, 6, 4, seed=1), torch.randint(3, (12, 6), generator=seeded(2))
    criterion = nn.CrossEntropyLoss(**settings)
    problem = Problem(network(), criterion, split(x, t), forward=lambda m, x: m(x).transpose(1, 2))
    assert_pooled(problem, x, t)
    pixels = x.view(12, 2, 3, 4), t.view(12, 2, 3)
    problem = Problem(network(), criterion, split(*pixels), forward=lambda m, x: m(x).movedim(-1, 1))
    assert_pooled(problem, *pixels)


def test_padded_sequences_give_the_mean_over_all_tokens():
    lengths = (6, 3, 1)
    data = [
        (normal(n, length, 4, seed=n), torch.randint(3, (n, length), generator=seeded(n)))
        for n, length in zip((2, 3, 4), lengths, strict=True)
    ]
    problem = Problem(network(), nn.CrossEntropyLoss(), data, forward=lambda m, x: m(x).transpose(1, 2))
    flat = [(x.flatten(0, 1), t.flatten()) for x, t in data]
    x, t = (torch.cat(column) for column in zip(*flat, strict=True))
    expected = F.cross_entropy(problem.model(x), t).detach()
    padded = [(F.pad(x, (0, 0, 0, 6 - x.shape[1])), F.pad(t, (0, 6 - t.shape[1]), value=-100)) for x, t in data]
    torch.testing.assert_close(problem.with_data(padded).loss(), expected, rtol=1e-12, atol=0)


def test_a_batch_without_units_is_skipped():
    x, t = normal(12, 4, seed=1), torch.randint(3, (12,), generator=seeded(2))
    t[7:11] = -100  # the whole second batch
    problem = Problem(network(), nn.CrossEntropyLoss(), split(x, t))
    assert_pooled(problem, x, t)
    assert problem.extent.batches == 2
    assert problem.extent.units == 8
    unweighted = nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    t[7:11], t[0] = 2, 1
    assert_pooled(Problem(network(), unweighted, split(x, t)), x, t)


def test_an_explicit_weight_wins():
    x, t = normal(12, 4, seed=1), torch.randint(3, (12,), generator=seeded(2))
    criterion, by_batch = nn.CrossEntropyLoss(weight=WEIGHTS), dict(zip(SIZES, (1.0, 2.0, 5.0), strict=True))
    problem = Problem(network(), criterion, split(x, t), weight=lambda _, t: by_batch[len(t)])
    singles = [criterion(problem.model(a), b).detach() for a, b in split(x, t)]
    shares = [by_batch[n] / 8 for n in SIZES]
    torch.testing.assert_close(problem.loss(), sum(s * loss for s, loss in zip(shares, singles, strict=True)))
    assert problem.extent.units == 8


def test_units_of_a_criterion():
    t = torch.tensor([0, 1, 2, 2, -100])
    assert default_units(nn.CrossEntropyLoss())(None, t) == 4
    assert default_units(nn.CrossEntropyLoss(weight=WEIGHTS))(None, t) == pytest.approx(7.2)
    assert default_units(partial(F.nll_loss, ignore_index=2, weight=WEIGHTS))(None, t[:4]) == pytest.approx(1.2)
    assert default_units(nn.MSELoss())(None, t) == 5
    assert default_units(lambda z, t: z.sum())(None, t) == 5
    assert default_units(nn.CrossEntropyLoss())(None, torch.rand(5, 3)) == 5


def test_the_empirical_fisher_weighs_samples_by_their_units():
    x, t = normal(12, 4, seed=1), torch.randint(3, (12,), generator=seeded(2))
    criterion = nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=1)
    problem, v = Problem(network(), criterion, split(x, t)), normal(43, seed=5)
    units = torch.tensor([0.0 if int(c) == 1 else float(WEIGHTS[c]) for c in t], dtype=torch.float64)
    expected = torch.zeros(43, dtype=torch.float64)
    for i in units.nonzero()[:, 0].tolist():
        loss = F.cross_entropy(problem.model(x[i : i + 1]), t[i : i + 1])
        g = torch.cat([s.flatten() for s in torch.autograd.grad(loss, list(problem.model.parameters()))])
        expected += units[i] / units.sum() * g * (g @ v)
    torch.testing.assert_close(fisher(problem, "empirical") @ v, expected, rtol=1e-10, atol=1e-14)


LENGTHS = ((3, 6), (2, 2), (4, 1))  # sequences and tokens in each: 26 tokens in 9 sequences


def unpadded(*trailing, classes=3):
    """Batches of sequences (B, T, 4) with targets (B, T), or (B, T, *trailing) of no classes."""
    found = []
    for i, (n, length) in enumerate(LENGTHS):
        t = torch.randint(classes, (n, length), generator=seeded(i)) if not trailing else normal(n, length, *trailing)
        found.append((normal(n, length, 4, seed=i), t))
    return found


def one_mean(problem, data):
    """Of all tokens at once."""
    x, t = (torch.cat([part.flatten(0, 1) for part in column])[None] for column in zip(*data, strict=True))
    return problem.criterion(problem.forward(problem.model, x), t).detach()


def channels_first(m, x):
    return m(x).transpose(1, 2)


@pytest.mark.parametrize("name", CLASS_CRITERIA)
def test_unpadded_sequences_count_by_their_tokens(name):
    data = unpadded()
    problem = Problem(network(), CLASS_CRITERIA[name], data, forward=channels_first)
    x, t = (torch.cat([part.flatten(0, 1) for part in column])[None] for column in zip(*data, strict=True))
    assert_pooled(problem, x, t)
    by_sequences = Problem(network(), CLASS_CRITERIA[name], data, forward=channels_first, weight=lambda _, t: len(t))
    assert abs(by_sequences.loss() - problem.loss()) > 1e-3


def test_images_of_unequal_sizes_count_by_their_pixels():
    data = [
        (normal(n, h, w, 4, seed=h), torch.randint(3, (n, h, w), generator=seeded(h)))
        for n, h, w in [(2, 3, 5), (3, 2, 1)]
    ]
    problem = Problem(network(), nn.CrossEntropyLoss(), data, forward=lambda m, x: m(x).movedim(-1, 1))
    flat = [(x.flatten(1, 2), t.flatten(1)) for x, t in data]
    expected = one_mean(Problem(network(), nn.CrossEntropyLoss(), flat, forward=channels_first), flat)
    torch.testing.assert_close(problem.loss(), expected, rtol=1e-12, atol=0)


def sigmoid(m, x):
    return m(x).sigmoid()


OVER_ENTRIES = {
    "mse": (nn.MSELoss(), None),
    "mse function": (F.mse_loss, None),
    "l1": (partial(F.l1_loss, reduction="mean"), None),
    "smooth l1": (nn.SmoothL1Loss(), None),
    "huber": (F.huber_loss, None),
    "bce": (nn.BCELoss(), sigmoid),
    "bce with logits": (nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), None),
    "bce function": (F.binary_cross_entropy_with_logits, None),
    "poisson": (nn.PoissonNLLLoss(), None),
    "soft targets": (nn.CrossEntropyLoss(), lambda m, x: m(x).movedim(-1, 1)),
}


@pytest.mark.parametrize("name", OVER_ENTRIES)
def test_means_over_all_entries_count_entries(name):
    criterion, forward = OVER_ENTRIES[name]
    data = [(x, t.softmax(-1)) for x, t in unpadded(3)]
    if name == "soft targets":
        data = [(x, t.movedim(-1, 1)) for x, t in data]
    problem = Problem(network(), criterion, data, forward=forward)
    losses = [criterion(problem.forward(problem.model, x), t).detach() for x, t in data]
    tokens = [n * length for n, length in LENGTHS]
    expected = sum(n * loss for n, loss in zip(tokens, losses, strict=True)) / sum(tokens)
    torch.testing.assert_close(problem.loss(), expected, rtol=1e-12, atol=0)
    if forward is None:
        torch.testing.assert_close(one_mean(problem, data), expected, rtol=1e-12, atol=0)


class Shifted(nn.CrossEntropyLoss):
    def forward(self, z, t):
        return super().forward(z[:, :, 1:], t[:, :-1])


UNKNOWN = {
    "scaled": lambda z, t: 2 * F.cross_entropy(z, t),
    "own forward": Shifted(),
    "mean over the batch": lambda z, t: F.cross_entropy(z, t, reduction="none").sum() / len(t),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_where_the_mean_is_not_known_samples_of_unequal_sizes_are_refused(name):
    data = unpadded()[:2]
    problem = Problem(network(), UNKNOWN[name], data, forward=channels_first)
    with pytest.raises(ValueError, match=r"^it is not known .* 6 targets that count and one of another 2; pass weight"):
        problem.loss()
    alike = problem.with_data([data[1], data[1]])
    torch.testing.assert_close(alike.loss(), problem.with_data(data[1]).loss())
    told = Problem(network(), UNKNOWN[name], data, weight=lambda _, t: t.numel(), forward=channels_first)
    assert torch.isfinite(told.loss())


def test_a_divergence_by_batches_counts_samples():
    data = [(x, t.softmax(-1)) for x, t in unpadded(3)]
    criterion = nn.KLDivLoss(reduction="batchmean")
    problem = Problem(network(), criterion, data, forward=lambda m, x: m(x).log_softmax(-1))
    losses = [criterion(problem.forward(problem.model, x), t).detach() for x, t in data]
    expected = (3 * losses[0] + 2 * losses[1] + 4 * losses[2]) / 9
    torch.testing.assert_close(problem.loss(), expected, rtol=1e-12, atol=0)


def test_samples_of_one_size_count_as_samples_wherever_the_data_comes_from():
    data = unpadded()
    problem = Problem(network(), nn.CrossEntropyLoss(), data, forward=channels_first)
    assert problem.extent.units == pytest.approx(3 + 2 * 2 / 6 + 4 * 1 / 6)
    assert problem.with_data(data[1]).extent.units == 2
    assert problem.with_data(data[:1] * 2).extent.units == 6
    assert problem.extent.units == pytest.approx(3 + 2 * 2 / 6 + 4 * 1 / 6)


def test_processes_whose_first_batches_differ_count_by_entries():
    (_, long), (_, short), _ = unpadded()
    shards = [default_units(nn.CrossEntropyLoss()).anew(by_entries=True) for _ in range(2)]
    assert [shards[0](None, long), shards[1](None, short)] == [18, 4]
    unknown = default_units(UNKNOWN["scaled"]).anew(by_entries=True)
    assert unknown(None, long) == 3
    with pytest.raises(ValueError, match="it is not known"):
        unknown(None, short)


@pytest.mark.parametrize("mark", [-100, -1])
@pytest.mark.parametrize("tokens", [(), (5,)])
def test_targets_that_a_plain_function_may_ignore_in_unequal_shares_ask_for_the_units(tokens, mark):
    x, t = normal(12, *tokens, 4, seed=1), torch.randint(3, (12, *tokens), generator=seeded(2))
    t.flatten()[::3] = mark

    def plain(outputs, targets):
        return F.cross_entropy(outputs.reshape(-1, 3), targets.flatten(), ignore_index=mark)

    expected = Problem(network(), plain, [(x, t)]).loss()
    with pytest.raises(ValueError, match=r"targets that count and one of another .* pass weight="):
        Problem(network(), plain, split(x, t)).loss()
    torch.testing.assert_close(
        Problem(network(), plain, split(x, t), weight=lambda _, t: (t >= 0).sum()).loss(), expected
    )
    alike = [(x[:6], t[:6]), (x[:6].flip(0), t[:6].flip(0))]
    torch.testing.assert_close(Problem(network(), plain, alike).loss(), Problem(network(), plain, alike[:1]).loss())
