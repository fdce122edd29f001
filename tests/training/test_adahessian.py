import copy
import pickle
from math import cos, pi, sin

import pytest
import torch
import torch.nn.functional as F
from step_cases import network
from torch import nn

from landscape.training.optimizers.adahessian import AdaHessian, averaged

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def minimise(f, start, steps, **settings):
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    opt = AdaHessian([w], **settings)

    def closure():
        opt.zero_grad()
        loss = f(w)
        opt.backward(loss)
        return loss

    for _ in range(steps):
        opt.step(closure)
    return w.detach()


def test_a_quadratic_along_the_axes_takes_one_step():
    w = minimise(lambda w: 10 * w[0] ** 2 + w[1] ** 2, [3.0, -7.0], 1, lr=1.0, eps=0.0)
    torch.testing.assert_close(w, torch.zeros(2, dtype=torch.float64), **EXACT)


def test_momentum_of_the_hessian_gets_through_local_minima():
    """x² + 0.1 x sin(20πx) from −1: with it the global minimum 0, without it a local one."""
    start, settings = [-1.0], {"lr": 1.0, "eps": 1e-4}
    f = lambda x: (x**2 + 0.1 * x * torch.sin(20 * pi * x)).sum()  # noqa: E731
    for beta2 in (0.9, 0.99, 0.999):
        assert abs(minimise(f, start, 1000, betas=(0.9, beta2), **settings).item()) < 1e-3
    x = minimise(f, start, 1000, betas=(0.9, 0.0), **settings).item()
    assert abs(x) > 0.2
    assert abs(2 * x + 0.1 * sin(20 * pi * x) + 2 * pi * x * cos(20 * pi * x)) < 1e-6  # f' = 0
    assert 2 + 4 * pi * cos(20 * pi * x) - 40 * pi**2 * x * sin(20 * pi * x) > 0


def quartic(w):
    """Hessian diagonal 12 w² and 2 where they do not couple: D is exact for every z."""
    return (w[:2] ** 4).sum() + (w[2:] ** 2).sum()


def test_ten_steps_equal_the_formula_written_out():
    start = [1.0, -2.0, 0.5]
    settings = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.05, "hessian_power": 0.5}
    for period in (1, 3):
        w, m, s, refreshes = torch.tensor(start, dtype=torch.float64), 0.0, 0.0, 0
        for step in range(10):
            if step % period == 0:
                refreshes += 1
                s = 0.9 * s + 0.1 * torch.cat([12 * w[:2] ** 2, 2 * torch.ones(1)]) ** 2
            m = 0.8 * m + 0.2 * torch.cat([4 * w[:2] ** 3, 2 * w[2:]])
            scale = (s / (1 - 0.9**refreshes)) ** 0.25 + 1e-3
            w = w * (1 - 0.1 * 0.05) - 0.1 * m / (1 - 0.8 ** (step + 1)) / scale
        torch.testing.assert_close(minimise(quartic, start, 10, period=period, **settings), w, **EXACT)


def test_the_probe_gives_the_diagonal_on_average_and_differs_from_step_to_step():
    A = torch.tensor([[3.0, 1.0, -0.5], [1.0, 4.0, 2.0], [-0.5, 2.0, 5.0]], dtype=torch.float64)
    w, drawn = torch.ones(3, dtype=torch.float64, requires_grad=True), []
    opt = AdaHessian([w], lr=0.0)
    for _ in range(400):
        opt.zero_grad()
        opt.backward(0.5 * w @ A @ w)
        drawn.append(opt._diagonal[w])
        opt.step()
    found = torch.stack(drawn)
    assert len(found.unique(dim=0)) == 4  # z and −z give the same
    error = found.std(0) / 20
    assert ((found.mean(0) - A.diagonal()).abs() < 4 * error).all()


def test_a_convolution_has_the_mean_curvature_of_each_kernel():
    """z of the loss Σ a w²/2 drops out: D is a, averaged over the last axes."""
    a = torch.arange(1.0, 37.0, dtype=torch.float64).view(2, 2, 3, 3)
    w, row = torch.ones_like(a, requires_grad=True), torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    opt = AdaHessian([w, row])
    opt.backward(0.5 * (a * w**2).sum() + 0.5 * (a[0, :, 0, :2] * row**2).sum())
    torch.testing.assert_close(averaged(opt._diagonal[w]), a.mean((2, 3), keepdim=True).expand_as(a), **EXACT)
    torch.testing.assert_close(averaged(opt._diagonal[row]), a[0, :, 0, :2], **EXACT)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("shape", [(2, 5), (2, 2, 1, 3), (5,)])
def test_one_step_with_averages_over_blocks_written_out(shape, absolute):
    """D of Σ a w²/2 is a, of both signs; rows of five in blocks of two, two and one."""
    a = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w = torch.full(shape, 2.0, dtype=torch.float64, requires_grad=True)
    opt = AdaHessian([{"params": [w], "block": 2}], lr=0.1, eps=0.01, absolute=absolute)
    for half in (a / 4, a * 3 / 4):  # two micro-batches
        opt.backward(0.5 * (half * w**2).sum())
    opt.step()
    D = a.abs() if absolute else a
    if len(shape) == 2:
        D = torch.stack([D[:, :2].mean(1), D[:, :2].mean(1), D[:, 2:4].mean(1), D[:, 2:4].mean(1), D[:, 4]], 1)
    if len(shape) == 4:
        D = D.mean((2, 3), keepdim=True)
    torch.testing.assert_close(w.detach(), 2 - 0.1 * 2 * a / (D.abs() + 0.01), **EXACT)


def train(model, opt, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, dtype=torch.float64, generator=generator)
        opt.zero_grad()
        opt.backward(F.cross_entropy(model(x), torch.arange(8) % 3))
        opt.step()


def test_state_dict_resumes_to_the_bit(tmp_path):
    whole, first, resumed = network(), network(), network()
    train(whole, AdaHessian(whole.parameters(), period=2), range(5))
    opt = AdaHessian(first.parameters(), period=2)
    train(first, opt, range(3))
    torch.save(opt.state_dict(), tmp_path / "opt.pt")
    resumed.load_state_dict(first.state_dict())
    opt = AdaHessian(resumed.parameters(), period=2)
    opt.load_state_dict(torch.load(tmp_path / "opt.pt", weights_only=True))
    train(resumed, opt, range(3, 5))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_gradients_are_torchs_add_up_and_keep_no_graph():
    model, x = network(), torch.ones(2, 4, dtype=torch.float64)
    opt = AdaHessian(model.parameters())
    for _ in range(2):
        opt.backward(model(x).square().mean())
    expected = torch.autograd.grad(2 * model(x).square().mean(), list(model.parameters()))
    for p, g in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g, **EXACT)
        assert not p.grad.requires_grad


def test_parameters_without_gradient_or_curvature_are_served():
    a, b, unused = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(3))
    opt = AdaHessian([{"params": [a, unused]}, {"params": [b], "lr": 0.5}], lr=1.0, eps=0.5)
    opt.backward((a**2).sum() + 3 * b.sum())
    opt.step()
    torch.testing.assert_close(a.detach(), torch.full((2,), 1 - 2 / 2.5, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(b.detach(), torch.full((2,), 1 - 0.5 * 3 / 0.5, dtype=torch.float64), **EXACT)
    assert torch.equal(unused.detach(), torch.ones(2, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # of torch's Adagrad
@pytest.mark.parametrize("sparse", [False, True])
def test_adagrad_beside_it_on_an_embedding(sparse):
    """Each steps as it does alone: AdaHessian with the embedding frozen, Adagrad on torch's own gradient."""
    index, targets = torch.tensor([[0, 2], [1, 2], [4, 4]]), torch.arange(3)
    model = nn.Sequential(nn.Embedding(6, 3, sparse=sparse), nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    model.double()
    alone, rows_alone = copy.deepcopy(model), copy.deepcopy(model)
    alone[0].requires_grad_(False)
    dense, rows = AdaHessian(model[2:].parameters()), torch.optim.Adagrad(model[0].parameters(), lr=0.1)
    dense.zero_grad()
    rows.zero_grad()
    dense.backward(F.cross_entropy(model(index), targets))
    dense.step()
    rows.step()
    opt = AdaHessian(alone[2:].parameters())
    opt.backward(F.cross_entropy(alone(index), targets))
    opt.step()
    F.cross_entropy(rows_alone(index), targets).backward()
    torch.optim.Adagrad(rows_alone[0].parameters(), lr=0.1).step()
    for p, q in zip(model[2:].parameters(), alone[2:].parameters(), strict=True):
        torch.testing.assert_close(p, q, **EXACT)
    torch.testing.assert_close(model[0].weight, rows_alone[0].weight, **EXACT)
    assert model[0].weight.grad.is_sparse == sparse


def test_a_sparse_gradient_of_its_own_is_named():
    embedding = nn.Embedding(6, 3, sparse=True)
    with pytest.raises(ValueError, match=r"D needs a dense gradient, got a sparse one of \(6, 3\)"):
        AdaHessian(embedding.parameters()).backward(embedding(torch.tensor([0, 1])).square().sum())


def test_a_loss_of_no_parameter_is_named():
    with pytest.raises(ValueError, match="loss must depend on a tensor that requires grad"):
        AdaHessian(network().parameters()).backward(torch.ones(()))


def by_state(pair):
    model, opt = pair
    fresh = network()
    fresh.load_state_dict(model.state_dict())
    other = AdaHessian(fresh.parameters(), lr=7.0)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    return fresh, other


@pytest.mark.parametrize("way", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair)), by_state])
def test_a_copy_steps_alike_and_leaves_the_original_alone(way):
    model = network()
    opt = AdaHessian(model.parameters(), period=2, block=3)
    train(model, opt, range(3))
    model_2, opt_2 = way((model, opt))
    at = [p.detach().clone() for p in model.parameters()]
    train(model_2, opt_2, range(3, 6))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), at, strict=True))
    train(model, opt, range(3, 6))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), model_2.parameters(), strict=True))


def test_a_state_of_an_older_version_is_read():
    model = network()
    opt = AdaHessian(model.parameters(), period=2)
    train(model, opt, range(1))
    state = copy.deepcopy(opt.state_dict())
    for name in ("period", "block", "absolute"):
        for group in state["param_groups"]:
            del group[name]
    other = AdaHessian(network().parameters(), period=2, block=4)
    other.load_state_dict(state)
    assert (other.period, other.param_groups[0]["block"], other.param_groups[0]["absolute"]) == (2, 1, False)


def test_a_plain_backward_is_named():
    w = torch.ones(1, requires_grad=True)
    opt = AdaHessian([w])
    (w**2).sum().backward()
    with pytest.raises(ValueError, match=r"optimizer.backward\(loss\), not loss.backward\(\)"):
        opt.step()
