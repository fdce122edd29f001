"""Modules whose call can be made once more, and what would be another function then: the same numbers, or a refusal."""

import inspect
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

import landscape as ls
from landscape.problem import Problem


class Block(nn.Module):
    """B tanh(A x), with what a test makes of it."""

    def __init__(self, function=None):
        super().__init__()
        self.a, self.b, self.function, self.calls = nn.Linear(4, 4), nn.Linear(4, 4), function, 0
        self.register_buffer("scale", torch.ones(()))
        self.draws = np.random.default_rng(0)

    def forward(self, x, *more, factor=1.0):
        if self.function is None:
            return factor * self.b(self.a(x).tanh())
        return self.function(self, x, *more)


class Network(nn.Module):
    def __init__(self, block, use):
        super().__init__()
        self.first, self.block, self.last, self.use = nn.Linear(4, 4), block, nn.Linear(4, 4), use

    def forward(self, x):
        return self.last(self.use(self.block, self.first(x).tanh()))


def problem(function, use, recompute, **settings):
    torch.manual_seed(0)
    model = Network(function if isinstance(function, nn.Module) else Block(function), use).double()
    x, y = (torch.randn(9, 4, dtype=torch.float64) for _ in range(2))
    data = [(x[:5], y[:5]), (x[5:], y[5:])]
    return Problem(model, F.mse_loss, data, recompute=["block"] if recompute else None, **settings)


def product(each, memory=0):
    return ls.hessian(each, mode="double_backward", verify=False, memory=memory) @ torch.ones(
        each.size, dtype=torch.float64
    )


def complex_between(block, h):
    z = block(block(torch.fft.fft(h)))
    return z.abs() + z.real


def keywords_it_takes(block, h):
    given = {"factor": 3.0} if "factor" in inspect.signature(block.forward).parameters else {}
    return block(h, **given)


def half_without_derivative(self, x):
    with torch.no_grad():
        y = self.b(x)
    return self.a(x).tanh() * y, self.a.weight


SAME = {
    "complex": (lambda self, z: torch.fft.ifft(torch.fft.fft(self.a(z.real)) * z), complex_between),
    "of a real input": (lambda self, x: torch.fft.fft(self.a(x).tanh()), lambda block, h: block(h).abs()),
    "by its signature": (None, keywords_it_takes),
    "by whether x has derivatives": (
        lambda self, x: self.b(self.a(x).tanh()) * (1 if x.requires_grad else 2),
        lambda block, h: block(h),
    ),
    "a part without": (half_without_derivative, lambda block, h: (lambda y, w: y @ w)(*block(h))),
    "twice the same": (lambda self, x: [self.a(x).tanh()] * 2, lambda block, h: torch.mul(*block(h))),
    "infinite": (
        lambda self, x: self.b(x).where(x > 0, -torch.inf),
        lambda block, h: block(h).exp(),
    ),
    "recurrent": (nn.LSTM(4, 4, batch_first=True), lambda block, h: block(h[:, None])[0][:, 0]),
}


@pytest.mark.parametrize("name", SAME)
def test_the_numbers_are_the_same(name):
    right, found = (problem(*SAME[name], recompute) for recompute in (False, True))
    torch.testing.assert_close(found.gradient(), right.gradient(), rtol=1e-12, atol=1e-14)
    for memory in (0, None):
        torch.testing.assert_close(product(found, memory), product(right, memory), rtol=1e-10, atol=1e-12)


def kept(self, x):
    self.kept = self.a(x).tanh()
    return self.b(self.kept)


@dataclass
class Outputs:
    y: Tensor


def counted(self, x):
    self.calls += 1
    return self.b((self.calls * self.a(x)).tanh())


def shuffled(self, x):
    return self.b(self.a(x).tanh())[:, torch.from_numpy(self.draws.permutation(4))]


def assigned(self, x):
    self.scale = self.scale + 1
    return self.b((self.scale * self.a(x)).tanh())


def appended(self, x, states):
    states.append(self.a(x).tanh())
    return self.b(states[-1])


def with_list(block, h):
    states = []
    return block(h, states) + sum(states)


def factor_set(block, h):
    for block.calls in (1, 2, 3):
        h = block(h)
    return h


def by_its_input(self, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(self.b(self.a(x).tanh()).square().sum(), x, create_graph=True)[0]


def by_torch_func(self, x):
    return torch.func.grad(lambda x: self.b(self.a(x).tanh()).square().sum())(x)


class ReNorm(nn.BatchNorm1d):
    """Batch renormalisation: it reads in training mode what batch normalisation only writes."""

    def forward(self, x):
        return super().forward(x) * (x.var(0) / self.running_var).sqrt().detach()


ELSEWHERE, OTHERWISE = "or gives tensors that are used elsewhere", "gives something else when it is computed anew"
REFUSED = {
    "attribute": (kept, lambda block, h: block(h) + block.kept, ELSEWHERE),
    "dataclass": (lambda self, x: Outputs(self.a(x).tanh()), lambda block, h: block(h).y, ELSEWHERE),
    "state": (kept, lambda block, h: block(h) + block(2 * h) * block.kept, ELSEWHERE),
    "counter": (counted, lambda block, h: block(h), OTHERWISE),
    "generator": (shuffled, lambda block, h: block(h), OTHERWISE),
    "buffer": (assigned, lambda block, h: block(h), OTHERWISE),
    "set by others": (
        lambda self, x: self.b((self.calls * self.a(x)).tanh()),
        factor_set,
        OTHERWISE,
    ),
    "statistics": (ReNorm(4), lambda block, h: block(h), OTHERWISE),
    "list": (appended, with_list, "writes into a list or dict it takes"),
    "derivative": (by_its_input, lambda block, h: block(h), "takes derivatives inside"),
    "torch.func": (by_torch_func, lambda block, h: block(h), "takes derivatives inside"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_another_function_is_refused(name):
    function, use, words = REFUSED[name]
    found = problem(function, use, True, batch_norm="batch" if name == "statistics" else "eval")
    for asked in (found.gradient, lambda: product(found), lambda: product(found, None)):
        with pytest.raises(ValueError, match=f"^recompute: module 'block' .*{words}.*; leave it out of recompute=$"):
            asked()


def test_a_list_that_a_hook_of_an_inner_module_fills_is_refused():
    seen = []

    def use(block, h):
        seen.clear()
        return block(h) + seen[0].square()

    found = problem(None, use, True)
    found.model.block.a.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs))
    with pytest.raises(ValueError, match=ELSEWHERE):
        found.gradient()


def test_what_was_set_for_one_batch_and_is_gone_is_refused():
    def use(block, h):
        block.mask = h.detach() > 0
        return block(h)

    masked = lambda self, x: self.b(self.a(x) * self.mask)  # noqa: E731
    right, found = (problem(masked, use, recompute) for recompute in (False, True))
    torch.testing.assert_close(product(found), product(right), rtol=1e-10, atol=1e-12)
    kept, v = ls.hessian(found, mode="double_backward", verify=False), found.vector()
    kept @ v
    with pytest.raises(ValueError, match=r"cannot be computed anew \('Block' object has no attribute 'mask'\)"):
        kept @ v


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


def test_a_derivative_that_is_not_there_is_missed_inside_too():
    right, found = (
        problem(lambda self, x: self.b(Cube.apply(self.a(x))), lambda block, h: block(h), recompute)
        for recompute in (False, True)
    )
    with pytest.raises(ValueError, match="the gradient cannot be differentiated, its graph in module 'block' ends in"):
        product(found)
    A, v = ls.hessian(found), torch.ones(found.size, dtype=torch.float64)
    torch.testing.assert_close(A @ v, ls.hessian(right) @ v, rtol=1e-6, atol=1e-8)
    assert A.mode == "central_differences"


def test_memory_that_two_outputs_share_is_watched():
    def use(block, h):
        y, part = block(h)
        y.mul_(2)
        return y + part

    found = problem(lambda self, x: (lambda y: (y, y[:, :1]))(self.b(self.a(x).tanh())), use, True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.gradient()
