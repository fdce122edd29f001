import inspect
import math
import sys

import numpy as np
import oracles
import pyhessian
import pytest
import torch
from cases import everything, make, normal, same
from torch import nn
from torch.nn import functional as F

from landscape.interop.pyhessian import CrossCheck, cross_check, hessian


def drop_in(case, **settings):
    return hessian(case.model, case.criterion, dataloader=case.batches, cuda=False, **settings)


@pytest.mark.parametrize("method", ["__init__", "eigenvalues", "trace", "density"])
def test_the_arguments_are_those_of_the_original(method):
    def arguments(of):
        return [(p.name, p.default) for p in inspect.signature(getattr(of, method)).parameters.values()]

    assert arguments(hessian) == arguments(pyhessian.hessian)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_the_returns_have_the_form_of_the_original():
    case = make("mlp")
    model, batch = case.model.float(), (case.inputs.float(), case.targets)

    def form(part):
        return [form(p) for p in part] if isinstance(part, list | tuple) else getattr(part, "shape", float)

    ours, theirs = (kind(model, case.criterion, data=batch, cuda=False) for kind in (hessian, pyhessian.hessian))
    assert form(ours.eigenvalues(top_n=2)) == form(theirs.eigenvalues(top_n=2))
    for traces in (ours.trace(), theirs.trace()):
        assert isinstance(traces, list)
        assert all(isinstance(value, float) for value in traces)
    model.zero_grad()


@pytest.mark.parametrize("name", ["mlp", "conv_bn", "attention", "frozen_unused", "dropout"])
def test_eigenvalues_are_those_of_the_dense_hessian(name):
    case = make(name)
    A = oracles.hessian(case)
    exact = torch.linalg.eigvalsh(A)
    values, vectors = drop_in(case).eigenvalues(maxIter=100, tol=1e-6, top_n=3)
    torch.testing.assert_close(torch.tensor(values), exact[exact.abs().argsort(descending=True)[:3]].float())
    own = [p for p in case.model.parameters() if p.requires_grad]
    for value, vector in zip(values, vectors, strict=True):
        assert [piece.shape for piece in vector] == [p.shape for p in own]
        v = torch.cat([piece.flatten() for piece in vector])
        assert (A @ v - value * v).norm() <= 1e-5 * abs(value)
        assert abs(v.norm() - 1) < 1e-9


def test_one_batch_and_a_loader_agree():
    case = make("conv_bn")
    whole = hessian(case.model, case.criterion, data=(case.inputs, case.targets), cuda=False)
    assert drop_in(case).eigenvalues(tol=1e-8)[0] == pytest.approx(whole.eigenvalues(tol=1e-8)[0], rel=1e-10)


def test_the_mean_of_the_trace_list_is_the_estimate_and_its_spread_the_error():
    case = make("conv_bn")
    exact = float(oracles.hessian(case).trace())
    assert drop_in(case).trace(maxIter=1000) == pytest.approx([exact, exact], rel=1e-9)
    with pytest.warns(RuntimeWarning, match=r"standard error of .* above tol=1e-09; raise maxIter"):
        samples = drop_in(case).trace(maxIter=40, tol=1e-9)
    stderr = np.std(samples, ddof=1) / math.sqrt(len(samples))
    assert 0 < stderr < 0.2 * abs(exact)
    assert abs(np.mean(samples) - exact) < 4 * stderr


def test_density_rows_are_quadratures():
    case = make("mlp")
    A = oracles.hessian(case)
    nodes, weights = drop_in(case).density(iter=20, n_v=3)
    assert [len(row) for row in nodes] == [len(row) for row in weights] == [20, 20, 20]
    np.testing.assert_allclose(np.sum(weights, axis=1), 1)
    exact = torch.linalg.eigvalsh(A)
    assert abs(np.max(nodes) - float(exact[-1])) < 1e-6
    means = np.sum(np.multiply(nodes, weights), axis=1)
    spread = math.sqrt(2 * float(exact.square().mean()) / len(A))  # of vᵀAv for a random unit v, at most
    assert abs(means.mean() - float(exact.mean())) < 4 * spread / math.sqrt(3)


def test_the_model_stays_as_it_was_found():
    case = make("conv_bn")
    before = everything(case.model)
    object_ = drop_in(case)
    object_.eigenvalues(top_n=2)
    object_.trace(maxIter=1000)
    object_.density(iter=5)
    assert same(everything(case.model), before)


def test_numbers_follow_the_model():
    case = make("mlp")
    object_ = drop_in(case)
    with torch.no_grad():
        for p in case.model.parameters():
            p.mul_(0.5)
    exact = torch.linalg.eigvalsh(oracles.hessian(case)).abs().max()
    assert abs(object_.eigenvalues(tol=1e-8)[0][0]) == pytest.approx(float(exact))


def test_pairs_that_did_not_converge_are_warned_of():
    with pytest.warns(RuntimeWarning, match=r"5 of 5 eigenpairs have a residual above tol=1e-08, .*raise maxIter"):
        values, _ = drop_in(make("mlp")).eigenvalues(maxIter=1, tol=1e-8, top_n=5)
    assert len(values) == 5


@pytest.mark.parametrize(("data", "dataloader", "count"), [(None, None, 0), ((normal(2, 4), normal(2, 3)), [], 2)])
def test_one_source_of_data(data, dataloader, count):
    with pytest.raises(ValueError, match=f"one of data=.* and dataloader=, got {count}"):
        hessian(nn.Linear(4, 3), nn.MSELoss(), data=data, dataloader=dataloader)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("eigenvalues", {"maxIter": 0}, "maxIter must be"),
        ("eigenvalues", {"top_n": 52}, r"top_n must be .* \[1, 51\]"),
        ("trace", {"tol": 0.0}, "tol must be positive"),
        ("density", {"iter": 0}, "iter must be"),
        ("density", {"n_v": 0}, "n_v must be"),
    ],
)
def test_arguments_out_of_range_are_named(method, settings, message):
    with pytest.raises(ValueError, match=message):
        getattr(drop_in(make("mlp")), method)(**settings)


@pytest.mark.parametrize("name", ["mlp", "attention", "conv_bn"])
def test_cross_check_sets_the_installed_package_beside_ours(name, tmp_path):
    case = make(name)
    before, dtype = everything(case.model), torch.get_default_dtype()
    found = cross_check(case.problem(), k=2)
    assert same(everything(case.model), before)
    assert torch.get_default_dtype() == dtype
    A = oracles.hessian(case)
    exact = torch.linalg.eigvalsh(A)
    exact = exact[exact.abs().argsort(descending=True)[:2]]
    assert bool(((found.eigenvalues - exact).abs() <= 1.01 * found.residuals).all())
    torch.testing.assert_close(found.peer_eigenvalues, exact, rtol=0.1, atol=0)
    torch.testing.assert_close(
        found.eigenvalue_errors, (found.peer_eigenvalues - exact).abs() / exact.abs(), rtol=1e-2, atol=1e-4
    )
    hutchinson = math.sqrt(2 * (float(A.square().sum()) - float(A.diagonal().square().sum())))
    assert abs(float(found.peer_trace - A.trace())) < 4 * hutchinson / math.sqrt(found.peer_matvecs["trace"])
    assert float(found.trace_error) == pytest.approx(abs(float(found.peer_trace / found.trace - 1)))
    assert found.peer_matvecs["eigenvalues"] >= 4
    assert min(*found.seconds.values(), *found.peer_seconds.values()) > 0
    loaded = CrossCheck.load(found.save(tmp_path / "check"))
    assert same(loaded.peer_eigenvalues, found.peer_eigenvalues)
    assert loaded.peer_matvecs == found.peer_matvecs


def test_cross_check_takes_the_chosen_parameters_and_follows_its_generator():
    problem = make("mlp").problem(parameters=["2.weight"])
    first, again = (cross_check(problem, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert float(first.eigenvalue_errors) < 0.05
    assert same(first.peer_trace, again.peer_trace)
    assert first.peer_matvecs == again.peer_matvecs


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("tokens", {}, "weighs by len"),
        ("mapping", {}, "weighs by len"),
        ("conv_bn", {"batch_norm": "batch"}, "batch_norm='eval' only"),
        ("frozen_unused", {}, "PyHessian failed on this problem: "),
    ],
)
def test_cross_check_names_what_the_package_cannot_do(name, settings, message):
    case = make(name)
    before = everything(case.model)
    with pytest.raises(ValueError, match=message):
        cross_check(case.problem(**settings))
    assert same(everything(case.model), before)


def test_cross_check_without_the_package_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyhessian", None)
    with pytest.raises(ValueError, match=r"PyHessian cannot be imported .*pip install"):
        cross_check(make("mlp").problem())


def test_half_precision_weights():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).bfloat16()
    batch = (normal(8, 4).bfloat16(), torch.arange(8) % 3)
    _, vectors = hessian(model, F.cross_entropy, data=batch).eigenvalues(tol=0.1)
    assert [piece.shape for piece in vectors[0]] == [p.shape for p in model.parameters()]
