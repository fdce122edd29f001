import oracles
import pytest
import torch
from cases import NAMES, make, normal
from torch import nn

from landscape.curvature import double_backward, ggn, hessian
from landscape.problem import Problem


@pytest.mark.parametrize("name", NAMES)
def test_hessian_equals_the_dense_oracle(name):
    case = make(name)
    assert oracles.relative(hessian(case.problem()).dense(), oracles.hessian(case)) < 1e-9


@pytest.mark.parametrize("policy", ["batch", "recompute"])
def test_hessian_equals_the_oracle_under_each_batch_norm_policy(policy):
    case = make("conv_bn")
    found = hessian(case.problem(batch_norm=policy)).dense()
    assert oracles.relative(found, oracles.hessian(case, policy)) < 1e-9
    assert oracles.relative(found, oracles.hessian(case, "eval")) > 0.01


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("name", ["mlp", "tied", "frozen_unused", "conv_bn"])
def test_vectors_put_together_while_backward_runs_equal_the_oracle(name, chunk, monkeypatch):
    monkeypatch.setattr(double_backward, "LARGE", 0)
    monkeypatch.setattr(double_backward, "SPARE", 0)
    case = make(name)
    assert oracles.relative(hessian(case.problem(), chunk=chunk).dense(), oracles.hessian(case)) < 1e-9
    assert oracles.relative(ggn(case.problem(), chunk=chunk).dense(), oracles.ggn(case)) < 1e-9


def test_product_matvec_and_block_agree():
    H = hessian(make("mlp").problem())
    V = normal(H.shape[0], 3)
    dense = H.dense()
    assert oracles.relative(H @ V, dense @ V) < 1e-12
    assert oracles.relative(H @ V[:, 0], dense @ V[:, 0]) < 1e-12


def test_hessian_elsewhere():
    case = make("mlp")
    w = oracles.vector(case) + 0.3
    expected = torch.autograd.functional.hessian(oracles.loss_of(case), w)
    assert oracles.relative(hessian(case.problem(), w).dense(), expected) < 1e-9


def test_parameters_that_the_loss_does_not_use_have_zero_rows():
    problem = make("frozen_unused").problem()
    H = hessian(problem).dense()
    unused = problem.layout.span("unused.weight")
    assert H[unused].abs().max() == 0
    assert H.abs().max() > 0


def test_chosen_parameters_give_the_submatrix():
    case = make("mlp")
    whole = oracles.hessian(case)
    part = hessian(case.problem(parameters=["2.weight"])).dense()
    assert oracles.relative(part, whole[30:48, 30:48]) < 1e-9


def test_a_frozen_parameter_may_be_chosen():
    case = make("frozen_unused")
    found = hessian(case.problem(parameters=["frozen.bias"])).dense()
    case.model.requires_grad_(False)
    case.model.frozen.bias.requires_grad_(True)
    assert oracles.relative(found, oracles.hessian(case)) < 1e-9


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_float32_recurrent_networks(kind):
    torch.manual_seed(0)
    case = make("lstm")
    model = kind(2, 3, batch_first=True).double()
    targets = normal(64, 3, 3)
    problem = Problem(model, nn.functional.mse_loss, (case.inputs, targets), forward=lambda m, x: m(x)[0])
    exact = hessian(problem).dense()
    model.float()
    single = Problem(
        model, nn.functional.mse_loss, (case.inputs.float(), targets.float()), forward=lambda m, x: m(x)[0]
    )
    assert oracles.relative(hessian(single).dense().double(), exact) < 1e-4
