"""Gradients that are those of no function, and modes that torch does not have: refused in one line."""

import pytest
import torch
from cases import normal, seeded
from torch import nn
from torch.nn import functional as F

from landscape.curvature import hessian
from landscape.problem import Problem


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        return -slope


GATES = {
    "detached": lambda h: h * h.detach(),
    "reversed": lambda h: torch.cat([h[:, :2], Reversed.apply(h[:, 2:])], 1),
    "straight through": lambda h: h + ((4 * h).round() / 4 - h).detach(),
}


class Gated(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.first, self.head, self.gate = nn.Linear(4, 5), nn.Linear(5, 3), gate

    def forward(self, x):
        return self.head(self.gate(torch.tanh(self.first(x))))


def problem_of(gate, criterion=F.cross_entropy):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Gated(gate).double()
    data = [(normal(n, 4), torch.randint(3, (n,), generator=seeded(n))) for n in (7, 4)]
    return Problem(net, criterion, data)


@pytest.mark.parametrize("gate", GATES)
def test_a_gradient_of_no_function_has_no_hessian(gate):
    problem = problem_of(GATES[gate])
    with pytest.raises(ValueError, match=r"^batch 0: the gradient is that of no function.*detaches") as caught:
        hessian(problem) @ normal(problem.size)
    assert "\n" not in str(caught.value)


def test_with_detached_values_held_fixed_it_has_one():
    problem = problem_of(GATES["detached"])
    held = {len(x): torch.tanh(problem.model.first(x)).detach() for x, _ in problem.reader.data}
    fixed = problem_of(lambda h: h * held[len(h)])
    dense = hessian(problem, mode="double_backward", verify=False).dense()
    torch.testing.assert_close(dense, hessian(fixed).dense(), rtol=1e-12, atol=1e-14)


def test_a_mode_that_torch_does_not_have_says_so():
    problem = problem_of(torch.sin, lambda z, t: F.huber_loss(z, F.one_hot(t, 3).to(z)))
    with pytest.raises(ValueError, match=r"forward_over_reverse is not there: .*huber.*; use mode='auto'$") as caught:
        hessian(problem, mode="forward_over_reverse") @ normal(problem.size)
    assert "\n" not in str(caught.value)


class Unmoved(torch.autograd.Function):
    """x, whatever w is, and no derivative by it."""

    @staticmethod
    def forward(ctx, x, w):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        return slope, None


def test_a_weight_of_which_a_function_gives_no_derivative_has_none():
    problem = problem_of(torch.sin)
    expected = hessian(problem, mode="double_backward", verify=False).dense()
    problem.model.register_parameter("idle", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    problem.model.gate = lambda h: Unmoved.apply(h.sin(), problem.model.idle)
    whole = Problem(problem.model, F.cross_entropy, problem.data)
    found = hessian(whole, mode="double_backward", verify=False).dense()
    torch.testing.assert_close(found[2:, 2:], expected, rtol=1e-12, atol=1e-14)
    assert whole.layout.names[0] == "idle"
    assert not found[:2].any()
    assert not found[:, :2].any()
