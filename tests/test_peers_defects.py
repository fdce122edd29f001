"""Defects met in other packages. Each test shows first that their recipe fails on the example, then that ours does not.

All on the networks of cases.py in float64, against dense oracles or prescribed spectra.
"""

from dataclasses import replace
from math import sqrt

import oracles
import pytest
import torch
from cases import everything, make, normal, same, seeded, symmetric
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import landscape as ls
from landscape.interop.pyhessian import hessian as drop_in


def leading(A, k):
    values = torch.linalg.eigvalsh(A)
    return values[values.abs().argsort(descending=True)[:k]]


def batch_means(case, share):
    """Mean of the batches' dense Hessians with these shares."""
    parts = [oracles.hessian(replace(case, inputs=x, targets=t)) for x, t in case.batches]
    return sum(share(t) * A for (_, t), A in zip(case.batches, parts, strict=True)) / sum(
        share(t) for _, t in case.batches
    )


def test_unequal_batches():
    case = make("mlp")  # 60 + 4 samples
    A = oracles.hessian(case)
    assert oracles.relative(batch_means(case, lambda t: 1), A) > 0.1
    H = ls.hessian(case.problem())
    assert oracles.relative(H.dense(), A) < 1e-12
    torch.testing.assert_close(ls.top_eigenpairs(H, 3, tol=1e-8).values, leading(A, 3))
    assert float(ls.trace(H, matvecs=51).value) == pytest.approx(float(A.trace()))


def test_ignore_index():
    case = make("tokens")
    targets = case.targets.clone()
    targets[1:57] = -1  # 60 samples with few valid tokens, 4 with as many
    case = replace(case, targets=targets)
    A = oracles.hessian(case)
    assert oracles.relative(batch_means(case, len), A) > 0.2
    assert oracles.relative(ls.hessian(case.problem()).dense(), A) < 1e-12
    assert oracles.relative(ls.ggn(case.problem()).dense(), oracles.ggn(case)) < 1e-12


def test_ghosts_beyond_50_steps():
    A = symmetric(torch.cat([torch.linspace(0, 1, 299), torch.tensor([20.0])])).float()
    alone, before, beta, alphas, betas = torch.ones(300) / sqrt(300), torch.zeros(300), 0.0, [], []
    for _ in range(120):
        w = A @ alone - beta * before
        alphas.append(float(w @ alone))
        w = w - alphas[-1] * alone
        beta = float(w.norm())
        betas.append(beta)
        before, alone = alone, w / beta
    T = (
        torch.diag(torch.tensor(alphas))
        + torch.diag(torch.tensor(betas[:-1]), 1)
        + torch.diag(torch.tensor(betas[:-1]), -1)
    )
    assert int((torch.linalg.eigvalsh(T) > 19.9).sum()) > 1
    density = ls.spectral_density(ls.MatrixOperator(A), probes=2, steps=120)
    for nodes, weights in zip(density.nodes, density.weights, strict=True):
        assert int(((nodes > 19.9) & (weights > 0)).sum()) <= 1


def test_tiny_scale():
    case = make("mlp")
    exact = leading(oracles.hessian(case), 4)
    for scale in (1e-6, 1e-12):
        small = replace(case, criterion=lambda z, t, scale=scale: scale * case.criterion(z, t))
        pairs = ls.top_eigenpairs(ls.hessian(small.problem()), 4, tol=1e-8)
        assert bool(pairs.converged.all())
        torch.testing.assert_close(pairs.values / scale, exact)
        values, _ = drop_in(small.model, small.criterion, dataloader=small.batches).eigenvalues(tol=1e-8, top_n=4)
        torch.testing.assert_close(torch.tensor(values, dtype=exact.dtype) / scale, exact)


def test_negative_dominant_eigenvalue():
    case = make("mlp")
    negative = replace(case, criterion=lambda z, t: -case.criterion(z, t))
    exact = leading(oracles.hessian(negative), 3)
    assert float(exact[0]) < 0
    H = ls.hessian(negative.problem())
    torch.testing.assert_close(ls.top_eigenpairs(H, 3, tol=1e-8).values, exact)
    torch.testing.assert_close(
        ls.top_eigenpairs(H, 1, which="LA", tol=1e-8).values, torch.linalg.eigvalsh(H.dense())[-1:]
    )


def test_two_objects_on_one_model():
    case = make("mlp")
    first, second = (drop_in(case.model, case.criterion, data=(case.inputs, case.targets)) for _ in range(2))
    exact = leading(oracles.hessian(case), 1).tolist()
    assert first.eigenvalues(tol=1e-8)[0] == pytest.approx(exact)
    assert second.eigenvalues(tol=1e-8)[0] == pytest.approx(exact)
    assert first.eigenvalues(tol=1e-8)[0] == pytest.approx(exact)
    assert all(p.grad is None for p in case.model.parameters())


def test_unused_parameter():
    case = make("frozen_unused")
    loss = case.criterion(case.model(case.inputs), case.targets)
    own = [p for p in case.model.parameters() if p.requires_grad]
    with pytest.raises(RuntimeError, match="appears to not have been used"):
        torch.autograd.grad(loss, own, create_graph=True)
    A = oracles.hessian(case)
    for operator in (ls.hessian, ls.ggn, ls.fisher):
        assert operator(case.problem()).dense().shape == A.shape
    assert oracles.relative(ls.hessian(case.problem()).dense(), A) < 1e-12
    assert float(ls.trace(ls.hessian(case.problem()), matvecs=len(A)).value) == pytest.approx(float(A.trace()))


def test_fused_attention():
    case = make("attention")
    case.model.train()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        loss = case.criterion(case.model(case.inputs), case.targets)
        slope = torch.autograd.grad(loss, list(case.model.parameters()), create_graph=True)
        with pytest.raises(RuntimeError, match=r"not implemented|not differentiable"):
            torch.autograd.grad(sum(g.square().sum() for g in slope), list(case.model.parameters()))
        assert oracles.relative(ls.hessian(case.problem()).dense(), oracles.hessian(case)) < 1e-12


def test_batch_norm_in_train_mode():
    case = make("conv_bn")
    case.model.train()
    A, exact = oracles.hessian(case), {}
    before = everything(case.model)
    H = ls.hessian(case.problem())
    exact["first"], exact["again"] = H.dense(), H.dense()
    assert oracles.relative(exact["first"], A) < 1e-12
    assert same(exact["first"], exact["again"])
    assert same(everything(case.model), before)
    case.model(case.inputs)  # as any product of theirs does
    assert not same(everything(case.model), before)


def test_a_stop_by_the_change_of_the_value():
    """Power iteration that stops when λ changes by less than 1e-3 is off by far more; a residual is a bound."""
    values = torch.cat([torch.tensor([1.0, 0.99, 0.98, 0.97]), torch.linspace(0, 0.9, 196)])
    A, errors = symmetric(values), []
    for seed in range(5):
        v, old = normal(200, seed=seed), 0.0
        v = v / v.norm()
        for _ in range(100):
            image = A @ v
            new = float(v @ image)
            v = image / image.norm()
            if abs(new - old) < 1e-3 * abs(old):
                break
            old = new
        errors.append(abs(new - 1))
    assert max(errors) > 0.01
    for seed in range(5):
        pairs = ls.top_eigenpairs(ls.MatrixOperator(A), 1, tol=1e-3, generator=seeded(seed))
        true = (A @ pairs.vectors - pairs.vectors * pairs.values).norm()
        assert float(true) <= float(pairs.residuals[0]) + 1e-12 <= 1e-3 + 1e-12
        assert abs(float(pairs.values[0]) - 1) <= 1e-3


def test_a_trace_that_stops_by_luck():
    """Hutchinson until the mean changes by less than 1e-3 is off by many times that. Ours says how far it is off."""
    A = symmetric(torch.cat([torch.linspace(1, 10, 10), 0.02 * torch.ones(390)]))
    exact, theirs, ours, covered = float(A.trace()), [], [], 0
    for seed in range(30):
        samples, old = [], 0.0
        source = seeded(seed)
        for _ in range(100):
            v = 2.0 * torch.randint(2, (400,), generator=source) - 1
            samples.append(float(v.double() @ A @ v.double()))
            mean = sum(samples) / len(samples)
            if abs(mean - old) < 1e-3 * abs(old):
                break
            old = mean
        theirs.append(mean / exact - 1)
        found = ls.trace(ls.MatrixOperator(A), matvecs=100, rtol=1e-3, generator=seeded(seed))
        ours.append(float(found.value) / exact - 1)
        covered += abs(float(found.value) - exact) <= 3 * float(found.stderr) + 1e-9 * exact

    def rms(errors):
        return sqrt(sum(e**2 for e in errors) / len(errors))

    assert rms(theirs) > 0.02
    assert rms(ours) < 1.5e-3
    assert covered >= 28


def test_a_density_that_smears_the_bulk():
    """A bulk of width 2e-3 under outliers up to 100: its nodes stay in it, with its mass and its mean."""
    bulk, outliers = torch.linspace(-1e-3, 1e-3, 190), torch.linspace(10, 100, 10)
    density = ls.spectral_density(ls.MatrixOperator(symmetric(torch.cat([bulk, outliers]))), probes=20, steps=60)
    inside = density.nodes.abs() < 5
    weighty = density.weights > 1e-8
    assert bool((density.nodes[inside & weighty].abs() <= 1.05e-3).all())
    mass = (density.weights * inside).sum(1)
    assert abs(float(mass.mean()) - 0.95) < 4 * float(mass.std()) / sqrt(20) + 1e-6
    moment = (density.weights * inside * density.nodes.square()).sum(1) / mass
    assert float(moment.mean()) == pytest.approx(float(bulk.square().mean()), rel=0.15)


def test_broken_density_weights():
    case = make("conv_bn")
    A = oracles.hessian(case)
    density = ls.spectral_density(ls.hessian(case.problem()), probes=40, steps=30)
    torch.testing.assert_close(density.weights.sum(1), torch.ones(40, dtype=torch.float64))
    means = (density.weights * density.nodes).sum(1)
    assert abs(float(means.mean() - A.diagonal().mean())) < 4 * float(means.std()) / sqrt(40) + 1e-9


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 1e-3), (torch.float64, 1e-6)])
def test_finite_differences_at_100_000_parameters_with_sign_probes(dtype, accuracy):
    """A fixed step along a vector of length 316 leaves the region where the gradient is linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 300), nn.Tanh(), nn.Linear(300, 10)).to(
            dtype
        )
    problem = ls.Problem(model, nn.functional.cross_entropy, (normal(32, 64).to(dtype), torch.arange(32) % 10))
    v = torch.where(normal(problem.size) > 0, 1.0, -1.0).to(dtype)
    exact = ls.hessian(problem, mode="double_backward") @ v
    w, fixed = problem.vector(), 1e-2
    naive = (problem.gradient(w + fixed * v) - problem.gradient(w - fixed * v)) / (2 * fixed)
    assert oracles.relative(naive, exact) > 0.02
    assert oracles.relative(ls.hessian(problem, mode="central_differences") @ v, exact) < accuracy
