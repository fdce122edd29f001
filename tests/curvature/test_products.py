"""Every way to a product gives the same matrix: modes, pieces of batches, chunks of columns, and what memory allows."""

import sys
from collections import UserDict
from copy import deepcopy

import oracles
import pytest
import torch
from cases import make, normal
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from landscape.curvature import fisher, ggn, hessian
from landscape.curvature.double_backward import double_backward
from landscape.problem import Problem

CASES = ("mlp", "conv_bn", "attention", "tokens", "mapping", "class_weights", "tied", "frozen_unused")


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3 / 3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0] ** 2


class Cubic(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.head, self.function = nn.Linear(4, 5), nn.Linear(5, 3), function

    def forward(self, x):
        return self.head(self.function(self.layer(x)))


class Reads(list):
    count = 0

    def __iter__(self):
        self.count += 1
        return super().__iter__()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk", [1, 4])
def test_forward_over_reverse_equals_the_dense_oracle(name, chunk):
    case = make(name)
    H = hessian(case.problem(), mode="forward_over_reverse", chunk=chunk)
    V = normal(H.shape[0], 6)
    assert oracles.relative(H @ V, oracles.hessian(case) @ V) < 1e-9


@pytest.mark.parametrize("name", CASES)
def test_central_differences_are_as_good_as_they_say(name):
    case = make(name)
    H = hessian(case.problem(), mode="central_differences")
    V = normal(H.shape[0], 3)
    exact = oracles.hessian(case) @ V
    error = ((H @ V - exact).norm(dim=0) / exact.norm(dim=0)).max()
    assert error <= H.error_estimate < 1e-5


def test_differences_do_not_depend_on_the_length_of_the_vector():
    H = hessian(make("mlp").problem(), mode="central_differences")
    v = H.w.cos()
    for scale in (1e-6, 1e6):
        assert oracles.relative(H @ (scale * v) / scale, H @ v) < 1e-8
    assert (H @ torch.zeros_like(v)).abs().max() == 0


def test_differences_with_random_signs_in_a_hundred_thousand_dimensions_in_single_precision():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 330), nn.Tanh(), nn.Linear(330, 3))
    problem = Problem(model, F.cross_entropy, (torch.randn(16, 300), torch.randint(3, (16,))))
    assert problem.size > 1e5
    signs = normal(problem.size).sign().float()
    inputs, targets = problem.data[0]
    twin = Problem(deepcopy(model).double(), F.cross_entropy, (inputs.double(), targets))
    exact = hessian(twin, mode="double_backward") @ signs.double()
    H = hessian(problem, mode="central_differences")
    error = oracles.relative((H @ signs).double(), exact)
    assert error <= H.error_estimate < 0.02


def test_auto_takes_differences_where_a_second_derivative_is_missing():
    torch.manual_seed(0)
    case, model = make("mlp"), Cubic(OnceDifferentiable.apply).double()
    H = hessian(Problem(model, F.cross_entropy, case.batches))
    assert H.mode == "auto"
    found = H.dense()
    assert H.mode == "central_differences"
    assert "no second derivative" in H.reason
    model.function = lambda x: x**3 / 3
    assert oracles.relative(found, hessian(Problem(model, F.cross_entropy, case.batches)).dense()) < 1e-7


def test_auto_keeps_graphs_that_fit_and_says_so():
    H = hessian(make("mlp").problem())
    H @ H.w
    assert (H.mode, H.reason) == ("double_backward", "about two gradients a product")
    assert H.error_estimate == 0


@pytest.mark.parametrize("name", ["mlp", "tokens", "mapping", "class_weights", "conv_bn"])
@pytest.mark.parametrize("operator", [hessian, ggn])
def test_pieces_of_batches_give_the_whole(name, operator):
    problem = make(name).problem()
    V = normal(problem.size, 3)
    assert oracles.relative(operator(problem, micro_batch=7) @ V, operator(problem) @ V) < 1e-12


def test_pieces_are_refused_where_they_would_change_the_loss():
    with pytest.raises(ValueError, match="micro_batch must be None under batch_norm='batch'"):
        hessian(make("conv_bn").problem(batch_norm="batch"), micro_batch=7)
    H = hessian(make("mlp").problem(weight=lambda _x, _t: 1), micro_batch=30)
    with pytest.raises(ValueError, match=r"weight must add up over its rows, got 2.0 for the pieces and 1.0"):
        H @ H.w


@pytest.mark.parametrize("memory", [0, 2**30])
def test_weight_decay_adds_a_multiple_of_the_identity(memory):
    case = make("mlp")
    H = hessian(case.problem(), weight_decay=0.3, memory=memory)
    expected = oracles.hessian(case) + 0.3 * torch.eye(H.shape[0], dtype=torch.float64)
    assert oracles.relative(H.dense(), expected) < 1e-9


def test_batches_are_kept_where_graphs_do_not_fit():
    case = make("mlp")
    small = 2 * sum(x.nbytes + t.nbytes for x, t in case.batches)
    for memory, reads in ((small, 1), (small - 1, 3)):
        H = hessian(case.problem(data=(data := Reads([*case.batches, *case.batches]))), memory=memory)
        first, *others = [H @ H.w.cos() for _ in range(3)]
        assert data.count == reads
        assert all(torch.equal(first, other) for other in others)


class Scarce:
    """A criterion that runs out of memory on more than so many rows, or while graphs are alive."""

    def __init__(self, rows):
        self.rows, self.refused = rows, 0

    def __call__(self, z, t):
        if len(t) > self.rows:
            self.refused += 1
            raise torch.OutOfMemoryError("out of memory (injected)")
        return F.cross_entropy(z, t)


@pytest.mark.parametrize("mode", ["double_backward", "forward_over_reverse", "central_differences"])
def test_out_of_memory_goes_on_with_less(mode):
    case = make("mlp")
    scarce = Scarce(16)
    H = hessian(Problem(case.model, scarce, case.batches), mode=mode, chunk=4, memory=0)
    V = normal(H.shape[0], 5)
    assert oracles.relative(H @ V, oracles.hessian(case) @ V) < 1e-6
    assert (H.chunk, H.micro_batch) == (1, 15)  # 4, 2, 1 columns, then 60, 30, 15 rows


def test_out_of_memory_that_nothing_helps_against_is_passed_on():
    case = make("conv_bn")
    for policy in ("eval", "batch"):
        H = hessian(Problem(case.model, Scarce(0), case.batches, batch_norm=policy))
        with pytest.raises(torch.OutOfMemoryError, match="injected"):
            H @ H.w


def test_columns_at_once_are_halved_before_rows(monkeypatch):
    def scarce(batch, manner, **settings):
        if manner.chunk > 2:
            raise torch.OutOfMemoryError("out of memory (injected)")
        return double_backward(batch, manner, **settings)

    monkeypatch.setattr(sys.modules["landscape.curvature.hessian"], "double_backward", scarce)
    case = make("mlp")
    H = hessian(case.problem(), mode="double_backward", chunk=8)
    V = normal(H.shape[0], 5)
    assert oracles.relative(H @ V, oracles.hessian(case) @ V) < 1e-9
    assert (H.chunk, H.micro_batch) == (2, None)


def test_a_batch_may_be_a_mapping_of_another_class():
    case = make("mapping")
    batches = [(UserDict(x), t) for x, t in case.batches]
    forward = lambda model, x: model(**x)["logits"]  # noqa: E731
    problem = Problem(case.model, F.cross_entropy, batches, forward=forward)
    assert oracles.relative(hessian(problem, micro_batch=9).dense(), oracles.hessian(case)) < 1e-9


def test_tensorfloat_is_off_in_a_product_and_as_found_after_it():
    conv = torch.backends.cudnn.conv
    found, seen = conv.fp32_precision, []

    def criterion(z, t):
        seen.append(conv.fp32_precision)
        return F.cross_entropy(z, t)

    case = make("mlp")
    problem = Problem(case.model, criterion, case.batches)
    try:
        conv.fp32_precision = "tf32"
        for asked, inside in ((False, "ieee"), (True, "tf32")):
            seen.clear()
            hessian(problem, tf32=asked) @ problem.vector()
            assert set(seen) == {inside}
            assert conv.fp32_precision == "tf32"
    finally:
        conv.fp32_precision = found


class Largest(TorchDispatchMode):
    """The most entries that any tensor had."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        parts = result if isinstance(result, list | tuple) else [result]
        self.entries = max([self.entries, *(part.numel() for part in parts if isinstance(part, torch.Tensor))])
        return result


@pytest.mark.parametrize("operator", [ggn, fisher, lambda problem: fisher(problem, "empirical")])
def test_a_large_vocabulary_needs_no_more_than_its_outputs(operator):
    torch.manual_seed(0)
    vocabulary, batch = 32_768, 8
    model = nn.Linear(2, vocabulary, bias=False)
    problem = Problem(model, F.cross_entropy, (torch.randn(batch, 2), torch.randint(vocabulary, (batch,))))
    G = operator(problem)
    v = normal(G.shape[0]).float()
    with Largest() as largest:
        G @ v
    assert largest.entries <= batch * vocabulary
