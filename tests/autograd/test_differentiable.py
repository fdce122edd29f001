import oracles
import pytest
import torch
from cases import normal
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from landscape.autograd.differentiable import differentiable
from landscape.curvature import hessian
from landscape.problem import Problem


@pytest.mark.parametrize("dim", [0, 1, -1, None])
def test_weight_normalisation_has_the_hessian_of_central_differences(dim):
    torch.manual_seed(0)
    model = weight_norm(nn.Linear(4, 5), dim=dim).double()
    problem = Problem(model, nn.functional.mse_loss, (normal(8, 4), normal(8, 5, seed=1)))
    w, step = problem.vector(), 1e-5
    moves = step * torch.eye(problem.size, dtype=w.dtype)
    differences = torch.stack([problem.gradient(w + e) - problem.gradient(w - e) for e in moves]) / (2 * step)
    assert oracles.relative(hessian(problem).dense(), differences) < 1e-7


def test_the_written_out_form_has_the_same_values():
    torch.manual_seed(0)
    model = weight_norm(nn.Conv2d(2, 3, 3)).double()
    x = normal(4, 2, 5, 5)
    expected = model(x)
    with differentiable(model, twice=True):
        assert oracles.relative(model(x), expected) < 1e-14
