"""The step in two gloo processes with DistributedDataParallel, against one process."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from served import of_two_ranks
from step_cases import closure_for, closure_of, data, network, weights, wrapped
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from landscape.training.rules import egr, eigen_sam, esam, friendly_sam, gsam, looksam, sam, sam_second_order, wsam
from landscape.training.sharpness_aware.step import SharpnessAware

RULES = {
    "sam": sam(0.3),
    "sam steps=2": sam(0.3, steps=2),
    "gsam": gsam(0.3),
    "wsam": wsam(0.3),
    "looksam": looksam(0.3, period=2),
    "esam": esam(0.3),
    "friendly_sam": friendly_sam(0.3),
    "eigen_sam": eigen_sam(0.3, top=lambda: torch.arange(43).double(), period=2),
    "sam_second_order": sam_second_order(0.3),
    "egr": egr(0.3),
}
STEPS = 3


def halves(step):
    return [(x, y) for x, y in zip(*(part.split(6) for part in data(step)), strict=True)]


def shares(step):
    return [(x, y) for x, y in zip(*(part.split([9, 3]) for part in data(step)), strict=True)]


def distributed_step(rule, per_rank):
    model = DistributedDataParallel(network())
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    return model, SharpnessAware(base, rule, model=model, per_rank=per_rank)


def trained(rule, rank, per_rank):
    model, opt = distributed_step(rule, per_rank)
    for step in range(STEPS):
        opt.step(closure_for(model, opt, *halves(step)[rank]))
    return weights(model)


def unequal(rank):
    """Rank 0 has 9 of the 12 samples."""
    model, opt = distributed_step(gsam(0.3), per_rank=True)
    for step in range(STEPS):
        x, y = shares(step)[rank]
        opt.step(closure_for(model, opt, x, y), sizes=[len(y)])
    return weights(model)


def in_two_calls(rank):
    model, opt = distributed_step(gsam(0.3), per_rank=False)
    for step in range(STEPS):
        closure = closure_for(model, opt, *halves(step)[rank])
        closure()
        opt.first_step()
        closure()
        opt.second_step()
    return weights(model)


def spoilt(rank, per_rank, bad_pass):
    """Rank 1 alone has an infinity in its loss: the step it leads to, the scale, and the warnings."""
    model, opt = distributed_step(friendly_sam(0.3), per_rank)
    before, scaler, passes = weights(model), torch.amp.GradScaler("cpu", init_scale=4.0), []
    x, y = halves(0)[rank]

    def closure():
        passes.append(1)
        opt.zero_grad()
        factor = float("inf") if rank == 1 and len(passes) == bad_pass else 1.0
        scaler.scale(factor * F.cross_entropy(model(x), y)).backward()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opt.step(closure, scaler=scaler)
    scaler.update()
    return torch.equal(weights(model), before), scaler.get_scale(), opt.rule_state, len(caught)


def without_gradient(rank):
    """Rank 1 has a gradient of zero, and so no pass 2 of its own."""
    model, opt = distributed_step(gsam(0.3), per_rank=True)
    x, y = halves(0)[rank]
    opt.step(closure_of(opt, lambda: (1 - rank) * F.cross_entropy(model(x), y)))
    return weights(model)


def process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {(name, each): trained(rule, rank, each) for name, rule in RULES.items() for each in (False, True)}
    found["two calls"] = in_two_calls(rank)
    found["unequal"] = unequal(rank)
    found["without gradient"] = without_gradient(rank)
    for each in (False, True):
        for bad_pass in (1, 2):
            found["spoilt", each, bad_pass] = spoilt(rank, each, bad_pass)
    _, opt = distributed_step(sam(), per_rank=True)
    try:
        opt.first_step()
    except ValueError as error:
        found["message"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return of_two_ranks(process, tmp_path_factory.mktemp("ranks"))


def one_process(rule, closures_of, sizes=None):
    model = network()
    opt = wrapped(model, rule)
    for step in range(STEPS):
        opt.step(closures_of(model, opt, step), sizes=sizes)
    return weights(model)


@pytest.mark.parametrize("name", RULES)
def test_the_ranks_have_one_e_which_is_that_of_the_whole_batch(found, name):
    expected = one_process(RULES[name], lambda model, opt, step: closure_for(model, opt, *data(step)))
    assert torch.equal(found[0][name, False], found[1][name, False])
    tolerance = 1e-9 if name in ("egr", "sam_second_order") else 1e-12  # central differences amplify rounding
    torch.testing.assert_close(found[0][name, False], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", RULES)
def test_an_e_for_each_rank_is_m_sharpness_with_the_ranks_as_parts(found, name):
    expected = one_process(
        RULES[name], lambda model, opt, step: [closure_for(model, opt, *half) for half in halves(step)]
    )
    assert torch.equal(found[0][name, True], found[1][name, True])
    tolerance = 1e-9 if name in ("egr", "sam_second_order") else 1e-12
    torch.testing.assert_close(found[0][name, True], expected, rtol=tolerance, atol=tolerance)
    assert name == "egr" or not torch.allclose(found[0][name, True], found[0][name, False])


def test_ranks_count_for_the_samples_that_they_have(found):
    expected = one_process(
        gsam(0.3), lambda model, opt, step: [closure_for(model, opt, *share) for share in shares(step)], sizes=[9, 3]
    )
    assert torch.equal(found[0]["unequal"], found[1]["unequal"])
    torch.testing.assert_close(found[0]["unequal"], expected, rtol=1e-12, atol=1e-12)


def test_two_calls_of_ranks_with_one_e(found):
    assert torch.equal(found[0]["two calls"], found[0]["gsam", False])


@pytest.mark.parametrize("per_rank", [False, True])
@pytest.mark.parametrize("bad_pass", [1, 2])
def test_an_infinity_on_one_rank_skips_the_step_on_all(found, per_rank, bad_pass):
    for rank in range(2):
        assert found[rank]["spoilt", per_rank, bad_pass] == (True, 2.0, None, 1)


def test_a_rank_without_gradient_waits_for_nobody(found):
    """Written out: g and g_adv are half those of rank 0."""
    model = network()
    ps, w = list(model.parameters()), weights(model)
    x, y = halves(0)[0]
    g = nn.utils.parameters_to_vector(torch.autograd.grad(F.cross_entropy(model(x), y), ps))
    nn.utils.vector_to_parameters(w + 0.3 * g / g.norm(), ps)
    g_adv = nn.utils.parameters_to_vector(torch.autograd.grad(F.cross_entropy(model(x), y), ps))
    d = (g_adv - 0.4 * (g - (g @ g_adv) / (g_adv @ g_adv) * g_adv)) / 2
    expected = w - 0.1 * (d + 0.01 * w)
    for rank in range(2):
        torch.testing.assert_close(found[rank]["without gradient"], expected, rtol=1e-12, atol=1e-13)


def test_what_an_e_for_each_rank_does_not_go_with(found):
    assert found[0]["message"] == "per_rank has no two-call form; use step(closure)"
    model = network()
    with pytest.raises(ValueError, match="per_rank needs a DistributedDataParallel as model, got Sequential"):
        SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(), model=model, per_rank=True)
    static = Static(model)
    with pytest.raises(ValueError, match="per_rank needs static_graph=False"):
        SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(), model=static, per_rank=True)


class Static(nn.parallel.DistributedDataParallel):
    """With the graph of its first pass, and without a process group."""

    static_graph = True

    def __init__(self, module):
        nn.Module.__init__(self)
        self.module = module
