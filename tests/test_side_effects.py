import pickle
import random

import numpy as np
import pytest
import torch
from cases import everything, make, same, seeded
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from landscape import side_effects
from landscape.curvature import fisher, ggn, hessian, hessian_blocks
from landscape.linalg import diagonal, spectral_density, top_eigenpairs, trace
from landscape.problem import Problem


class Noisy(Dataset):
    """Reading a sample moves every global random state on."""

    def __init__(self, case):
        self.case = case

    def __len__(self):
        return 64

    def __getitem__(self, i):
        noise = torch.rand(()) + random.random() + np.random.rand()
        return self.case.inputs[i] + 0.1 * noise, self.case.targets[i]


CALLS = {
    "loss": lambda p: p.loss(),
    "loss elsewhere": lambda p: p.loss(p.vector() + 1),
    "gradient": lambda p: p.gradient(),
    "outputs": lambda p: p.outputs(),
    "hessian": lambda p: hessian(p).matvec(p.vector()),
    "ggn": lambda p: ggn(p).matvec(p.vector()),
    "sampled": lambda p: fisher(p, "sampled").matvec(p.vector()),
    "empirical": lambda p: fisher(p, "empirical").matvec(p.vector()),
    "blocks": lambda p: [block.matvec(block.w) for block in hessian_blocks(p).values()],
    "eigenpairs": lambda p: top_eigenpairs(hessian(p), 1, max_matvecs=3),
    "trace": lambda p: trace(hessian(p), matvecs=4),
    "diagonal": lambda p: diagonal(ggn(p), matvecs=4),
    "density": lambda p: spectral_density(hessian(p), probes=1, steps=2),
}


def second_call_fails(function, kind):
    """The function, but its second call gives NaN or raises: much has been moved by then."""
    calls = []

    def failing(*args):
        calls.append(args)
        if len(calls) == 1:
            return function(*args)
        if kind == "nan":
            return function(*args) * float("nan")
        raise KeyError("second call")

    return failing


def loaded(name, policy, place=None, kind=None):
    np.random.seed(3)
    np.random.randn()  # the second one of the pair waits in NumPy's state
    case, source = make(name), seeded(3)
    first = next(case.model.parameters())
    first.grad = torch.ones_like(first)
    loader = DataLoader(Noisy(case), batch_size=33, shuffle=True, generator=source)
    criterion, forward = F.cross_entropy, lambda model, x: model(x)
    if place == "criterion":
        criterion = second_call_fails(criterion, kind)
    elif place == "forward":
        forward = second_call_fails(forward, kind)
    return Problem(case.model, criterion, loader, forward=forward, batch_norm=policy), source


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("name", "policy"), [("conv_bn", "batch"), ("conv_bn", "recompute"), ("attention", "eval")])
def test_a_call_leaves_no_trace(call, name, policy):
    problem, source = loaded(name, policy)
    before = everything(problem.model, source)
    CALLS[call](problem)
    after = everything(problem.model, source)
    assert [same(a, b) for a, b in zip(after, before, strict=True)] == [True] * len(before)


@pytest.mark.parametrize("call", [call for call in CALLS if call not in ("outputs", "sampled")])
@pytest.mark.parametrize(("place", "kind"), [("criterion", "nan"), ("criterion", "raise"), ("forward", "raise")])
def test_a_call_that_fails_leaves_no_trace(call, place, kind):
    problem, source = loaded("conv_bn", "recompute", place, kind)
    before = everything(problem.model, source)
    with pytest.raises((ValueError, KeyError), match=r"the loss is nan|second call"):
        CALLS[call](problem)
    after = everything(problem.model, source)
    assert [same(a, b) for a, b in zip(after, before, strict=True)] == [True] * len(before)


def test_the_comparison_sees_each_kind_of_trace():
    problem, source = loaded("conv_bn", "eval")
    model = problem.model

    def touch():
        yield lambda: model[0].bias.data.add_(1e-15)
        yield lambda: model[0].weight.grad.add_(1)
        yield lambda: model[0].bias.requires_grad_(False)
        yield lambda: model[1].running_mean.add_(1)
        yield lambda: model[1].train(not model[1].training)
        yield lambda: torch.rand(1)
        yield random.random
        yield np.random.rand
        yield lambda: torch.rand(1, generator=source)
        yield lambda: torch.backends.mha.set_fastpath_enabled(False)

    with side_effects.random_state_kept():
        for change in touch():
            before = everything(model, source)
            change()
            assert not same(everything(model, source), before)
    torch.backends.mha.set_fastpath_enabled(True)


def test_two_operators_on_one_model_do_not_disturb_each_other():
    problem = make("conv_bn").problem()
    v = problem.vector()
    alone = hessian(problem) @ v, ggn(problem) @ v
    H, G = hessian(problem), ggn(problem)
    for _ in range(2):
        assert torch.equal(H @ v, alone[0])
        assert torch.equal(G @ v, alone[1])


def test_random_state_is_put_back_and_can_be_replayed():
    def draw():
        return [random.random(), np.random.rand(), float(torch.rand(())), float(torch.rand((), generator=source))]

    source = seeded(2)
    with side_effects.random_state_kept(source):
        rewind = side_effects.random_state(source)
        first = draw()
        assert draw() != first
        rewind()
        assert draw() == first
        rewind()
    assert draw() == first


def draws_nothing():
    pass


def draws_the_waiting_normal():
    np.random.randn()


def draws_normals():
    np.random.randn(5)


def comes_round():  # 624 numbers of 32 bits are one state
    np.random.bytes(4 * 624)


def seeds():
    np.random.seed(1)


def leaves_a_normal_waiting():  # as a seed that the caller has used, and one normal number
    np.random.set_state(np.random.get_state(legacy=False) | {"has_gauss": 1, "gauss": 9.0})


def takes_another_generator():
    np.random.set_bit_generator(np.random.PCG64(1))


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.PCG64])
@pytest.mark.parametrize("normals", [0, 1, 2])
@pytest.mark.parametrize(
    "act",
    [
        draws_nothing,
        draws_the_waiting_normal,
        draws_normals,
        comes_round,
        seeds,
        leaves_a_normal_waiting,
        takes_another_generator,
    ],
)
def test_numpys_global_numbers_go_on_as_if_nothing_had_been(kind, normals, act):
    usual = np.random.get_bit_generator()
    if act is seeds and kind is not np.random.MT19937:
        pytest.skip("NumPy seeds its usual generator alone")
    numbers = []
    try:
        for disturbed in (False, True):
            np.random.set_bit_generator(kind(0))
            np.random.randn(normals)
            rewind = pickle.loads(pickle.dumps(side_effects.random_state()))
            if disturbed:
                with side_effects.random_state_kept():
                    act()
            numbers.append(np.random.randn(4))
            if disturbed:
                act()
                rewind()
                numbers.append(np.random.randn(4))
    finally:
        np.random.set_bit_generator(usual)
    assert np.array_equal(numbers[0], numbers[1])
    assert np.array_equal(numbers[0], numbers[2])


def test_flags_and_buffers_come_back_after_an_error():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    model[0].eval()

    def fail():
        with side_effects.training_flags_kept(model), side_effects.buffers_kept(model):
            model.train()
            model[0](torch.randn(8, 2, generator=seeded()) + 5)
            assert model[0].running_mean.abs().min() > 0
            raise KeyError("after the change")

    with pytest.raises(KeyError):
        fail()
    assert [m.training for m in model.modules()] == [True, False, True]
    assert model[0].running_mean.abs().max() == 0
    assert model[0].num_batches_tracked == 0


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_derivatives_on(off):
    with off():
        with side_effects.derivatives_on():
            x = torch.ones((), requires_grad=True)
            assert torch.autograd.grad(x**3, x)[0] == 3
        assert not torch.is_grad_enabled()


def test_random_source_is_the_callers_or_seed_zero():
    own = seeded(4)
    assert side_effects.random_source(own) is own
    assert torch.equal(side_effects.random_source(None).get_state(), seeded(0).get_state())


@pytest.mark.parametrize("seed", [0, 7, 2**63 + 5, 2**64 - 1])
def test_a_seed_is_that_of_torch(seed, monkeypatch):
    states = []
    for act in (torch.manual_seed, side_effects.seed_torch):
        with side_effects.random_state_kept():
            act(seed)
            states.append(torch.get_rng_state())
    assert torch.equal(*states)
    seeded_all = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch, "manual_seed", seeded_all.append)
    side_effects.seed_torch(seed)
    assert seeded_all == [seed]
