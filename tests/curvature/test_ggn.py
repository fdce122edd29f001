import oracles
import pytest
import torch
from cases import NAMES, make
from torch import nn

from landscape.curvature import ggn, hessian
from landscape.problem import Problem


@pytest.mark.parametrize("name", NAMES)
def test_ggn_equals_the_dense_oracle(name):
    case = make(name)
    assert oracles.relative(ggn(case.problem()).dense(), oracles.ggn(case)) < 1e-9


@pytest.mark.parametrize("policy", ["batch", "recompute"])
def test_ggn_equals_the_oracle_under_each_batch_norm_policy(policy):
    case = make("conv_bn")
    found = ggn(case.problem(batch_norm=policy)).dense()
    assert oracles.relative(found, oracles.ggn(case, policy)) < 1e-9


def test_ggn_is_the_hessian_of_a_linear_model():
    torch.manual_seed(0)
    case = make("regression")
    problem = Problem(nn.Linear(4, 2).double(), case.criterion, case.batches)
    assert oracles.relative(ggn(problem).dense(), hessian(problem).dense()) < 1e-12


def test_a_criterion_linear_in_the_outputs_has_no_curvature():
    case = make("regression")
    problem = Problem(case.model, lambda z, t: (z * t).mean(), case.batches)
    assert ggn(problem).dense().abs().max() == 0
    assert hessian(problem).dense().abs().max() > 0


def test_outputs_that_are_no_tensor_are_named():
    case = make("mlp")
    wrapped = Problem(
        case.model, lambda z, t: case.criterion(z[0], t), case.batches, forward=lambda model, x: (model(x),)
    )
    with pytest.raises(ValueError, match="outputs must be one tensor, got tuple; pass forward="):
        ggn(wrapped).matvec(torch.ones(wrapped.size, dtype=torch.float64))
