import oracles
import pytest
import torch
from cases import everything, make, normal, same
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F

from landscape.metrics import ntk_condition_number
from landscape.problem import Problem


@pytest.mark.parametrize("name", ["mlp", "conv_bn", "attention"])
def test_is_that_of_the_dense_kernel(name: str) -> None:
    case = make(name)
    outputs = oracles.outputs_of(case, oracles.prepared(case), case.inputs[:6])
    J = jacobian(outputs, oracles.vector(case)).flatten(0, 1)
    values = torch.linalg.eigvalsh(J @ J.T)
    problem = case.problem()
    before = everything(problem.model)
    found = ntk_condition_number(problem, samples=6)
    assert found.details["lambda_max"] == pytest.approx(values[-1].item(), rel=1e-9)
    assert found.value.item() == pytest.approx((values[-1] / values[0]).item(), rel=1e-6)
    assert same(everything(problem.model), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_singular_kernel_is_capped_at_the_parameters_precision(dtype: torch.dtype) -> None:
    x = normal(1, 3).expand(4, 3).to(dtype)  # four copies of one sample
    problem = Problem(nn.Linear(3, 2).to(dtype), F.cross_entropy, [(x, torch.arange(4) % 2)])
    found = ntk_condition_number(problem, samples=4)
    assert found.value.item() == pytest.approx(1 / torch.finfo(dtype).eps)
    assert found.details["lambda_min"] < torch.finfo(dtype).eps * found.details["lambda_max"]


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="samples must be an integer at least 2, got 1"):
        ntk_condition_number(make("mlp").problem(), samples=1)
    wide = Problem(nn.Linear(1, 3000), F.mse_loss, [(torch.zeros(2, 1), torch.zeros(2, 3000))])
    with pytest.raises(ValueError, match="at most 4096 outputs in all, got 6000; use fewer samples"):
        ntk_condition_number(wide, samples=2)
