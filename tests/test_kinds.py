"""Each kind of network of the zoo against oracles of first derivatives alone, and what it leaves behind."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import architectures
import numpy as np
import oracles
import pytest
import torch
from differences import Oracle, chosen, flat
from kinds import KINDS, QUANTITIES, Network
from torch import Tensor

import landscape as ls


@cache
def oracle(name: str) -> Oracle:
    return Oracle(KINDS[name].build())


def vectors(problem: ls.Problem, count: int = 2) -> Tensor:
    draw = torch.randn(problem.size, count, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return draw.to(problem.vector())


def problem_of(net: Network) -> ls.Problem:
    return ls.Problem(net.model, net.criterion, net.batches, forward=net.forward, weight=net.weight)


def products(name: str, problem: ls.Problem, quantity: str) -> tuple[Tensor, Any, Tensor]:
    """What the library finds, the operator if there is one, and what is true."""
    V, w, truth = vectors(problem), problem.vector(), oracle(name)
    e = 0.1 * V[:, 0] / V[:, 0].norm()
    if quantity == "gradient":
        return problem.gradient(w + e), None, truth.gradient((w + e).double())
    if quantity == "slice":
        found = ls.slice_1d(problem, e, x=(0, 1, 2), progress=False).loss["train"]
        return torch.as_tensor(found), None, torch.stack([truth.loss(truth.w), truth.loss((w + e).double())])
    operator = operator_of(problem, quantity)
    found = operator @ V
    columns = [getattr(truth, quantity)(v) for v in V.double().T]
    return found, operator, torch.stack(columns, 1)


@contextmanager
def untouched(net: Network) -> Iterator[None]:
    """The network and all random states are the same afterwards, bit for bit."""
    before = state(net.model)
    yield
    after = state(net.model)
    assert before.keys() == after.keys()
    assert [key for key, value in before.items() if not same(value, after[key])] == []


def state(model: torch.nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {"torch": torch.get_rng_state(), "numpy": str(np.random.get_state())}
    found["python"] = str(random.getstate())
    for path, module in model.named_modules():
        for key, p in {**module._parameters, **module._buffers}.items():
            found[f"{path}.{key}"] = p if p is None else (id(p), p.requires_grad, p.grad, p.detach().clone())
        for key, value in {**vars(module), "training": module.training}.items():
            if isinstance(value, Tensor):  # computed weights
                found[f"{path}.{key}"] = value.detach().clone()
            elif isinstance(value, torch.Generator):
                found[f"{path}.{key}"] = value.get_state()
            elif isinstance(value, bool | int | float):
                found[f"{path}.{key}"] = value
    return found


def same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a.to_dense(), b.to_dense())
    return a == b


ALL = [(name, quantity) for name in KINDS for quantity in QUANTITIES]
RIGHT = [case for case in ALL if case[1] not in KINDS[case[0]].refused]
REFUSED = [case for case in ALL if case[1] in KINDS[case[0]].refused]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's checkpoint without gradients
@pytest.mark.parametrize(("name", "quantity"), RIGHT)
def test_it_is_right(name: str, quantity: str) -> None:
    kind = KINDS[name]
    net = kind.build()
    problem = problem_of(net)
    if net.draws is not None:
        problem.loss()  # notes the draws that the oracle takes over
        oracle(name).network.draws.seen.update(net.draws.seen)
    with untouched(net):
        found, operator, true = products(name, problem, quantity)
    assert oracles.relative(found.double(), true) < kind.tolerance
    if net.draws is not None:
        assert net.draws.differing == []
        a, b = (net.draws.seen[float(draws_key(x))][0] for x, _ in net.batches)
        assert not torch.equal(a[: len(b)], b)
    verified = getattr(operator, "verified", None)
    assert verified is None or verified < max(1e-2, 3 * kind.tolerance)


def draws_key(inputs: Any) -> Tensor:
    return (inputs["real"] if isinstance(inputs, dict) else inputs).sum()


@pytest.mark.parametrize(("name", "quantity"), REFUSED)
def test_it_is_refused_in_one_line_that_names_the_cause(name: str, quantity: str) -> None:
    net = KINDS[name].build()
    with untouched(net), pytest.raises(ValueError, match=KINDS[name].refused[quantity]) as caught:
        asked_for(net, quantity)
    assert "\n" not in str(caught.value)


def asked_for(net: Network, quantity: str) -> None:
    problem = problem_of(net)
    w = problem.vector()
    if quantity == "gradient":
        problem.gradient(w + 0.1)
    elif quantity == "slice":
        ls.slice_1d(problem, w, x=(0, 1, 2), progress=False)
    else:
        operator_of(problem, quantity) @ w


def operator_of(problem: ls.Problem, quantity: str) -> ls.CurvatureOperator:
    if quantity == "empirical":
        return ls.fisher(problem, "empirical")
    return {"hessian": ls.hessian, "ggn": ls.ggn}[quantity](problem)


@pytest.mark.parametrize("name", ["Mixture of experts, top 2", "torch.jit.script"])
def test_sampled_fisher_matrices_are_right_on_average(name: str) -> None:
    """v'F v over 50 draws, within 4 standard errors of v'G v."""
    problem, source = problem_of(KINDS[name].build()), torch.Generator().manual_seed(0)
    problem.criterion = torch.nn.functional.cross_entropy
    v = vectors(problem)[:, 0]
    values = torch.stack([v @ (ls.fisher(problem, "sampled", generator=source) @ v) for _ in range(50)])
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() - v.double() @ oracle(name).ggn(v.double())) < 4 * error


def test_the_page_has_the_table_that_the_records_make() -> None:
    page = architectures.PAGE.read_text()
    assert architectures.with_table(page) == page


def test_there_are_thirty_kinds_and_more() -> None:
    assert len(KINDS) >= 30


@pytest.mark.parametrize(
    "name", ["LSTM on packed sequences", "MAML, one inner step", "VAE, one draw of the latent code"]
)
def test_the_oracle_agrees_with_torchs_second_derivatives(name: str) -> None:
    net = KINDS[name].build()
    problem_of(net).loss()  # makes the draws, where there are any
    truth = Oracle(net)
    with truth.moved(truth.w) as model:
        own = chosen(model)
        slopes = flat(list(torch.autograd.grad(truth.total(model), own, create_graph=True)))
        v = torch.randn(slopes.shape, dtype=slopes.dtype, generator=torch.Generator().manual_seed(1))
        product = flat(list(torch.autograd.grad(slopes @ v, own)))
    assert oracles.relative(truth.hessian(v), product) < 1e-8
