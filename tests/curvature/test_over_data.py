"""What every operator over the data promises: it reads nothing when made, and it never changes."""

import pytest
import torch
from cases import make, seeded
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from landscape.curvature import fisher, ggn, hessian, hessian_blocks, over_data
from landscape.problem import Problem

OPERATORS = {
    "hessian": hessian,
    "ggn": ggn,
    "exact": fisher,
    "sampled": lambda problem: fisher(problem, "sampled"),
    "empirical": lambda problem: fisher(problem, "empirical"),
    "block": lambda problem: next(reversed(hessian_blocks(problem).values())),
}


@pytest.fixture(params=["graphs kept", "data read again"], autouse=True)
def memory(request, monkeypatch):
    if request.param == "data read again":
        monkeypatch.setattr(over_data, "GRAPHS", 0)
        monkeypatch.setattr(over_data, "BATCHES", 0)


class Checkpointed(nn.Module):
    """Its blocks are computed once more in every backward pass, with the weights that are in place then."""

    def __init__(self, saving, first):
        super().__init__()
        self.block, self.last, self.saving = nn.Sequential(first, nn.BatchNorm1d(5), nn.Tanh()), nn.Linear(5, 3), saving

    def forward(self, x):
        return self.last(checkpoint(self.block, x, use_reentrant=False) if self.saving else self.block(x))


class Forbidden:
    def __iter__(self):
        raise AssertionError("the data was read")


@pytest.mark.parametrize("kind", OPERATORS)
def test_making_an_operator_reads_no_data(kind):
    operator = OPERATORS[kind](make("conv_bn").problem(data=Forbidden(), batch_norm="recompute"))
    with pytest.raises(AssertionError, match="the data was read"):
        operator.matvec(operator.w)


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize(("name", "policy"), [("conv_bn", "eval"), ("conv_bn", "recompute"), ("frozen_unused", "eval")])
def test_an_operator_stays_when_the_model_moves_on(kind, name, policy):
    problem = make(name).problem(batch_norm=policy)
    operator, unused = OPERATORS[kind](problem), OPERATORS[kind](problem)
    v = operator.w.cos()
    before = operator @ v
    with torch.no_grad():
        for tensor in [*problem.model.parameters(), *problem.model.buffers()]:
            tensor.copy_(tensor + 1)
    assert torch.equal(operator @ v, before)
    assert torch.equal(unused @ v, before)
    assert not torch.equal(OPERATORS[kind](problem) @ v, before)


FIRST = {  # with batch normalisation behind it: layers that are written out to be differentiated twice
    "linear": lambda: nn.Linear(4, 5),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)),
}


@pytest.mark.parametrize("layer", FIRST)
@pytest.mark.parametrize("policy", ["eval", "batch"])
@pytest.mark.parametrize("kind", ["hessian", "ggn", "exact", "sampled"])
def test_products_away_from_the_models_own_weights_under_activation_checkpointing(kind, policy, layer):
    models = [Checkpointed(saving, FIRST[layer]()).double() for saving in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    data = [(torch.randn(n, 4, generator=seeded(n)).double(), torch.arange(n) % 3) for n in (7, 4)]
    problems = [Problem(model, nn.functional.cross_entropy, data, batch_norm=policy) for model in models]
    plain, saving = (OPERATORS[kind](problem) for problem in problems)
    with torch.no_grad():
        for parameter in models[1].parameters():  # the operator stays where it was made
            parameter.mul_(3)
    for v in (plain.w.cos(), plain.w.cos(), plain.w.sin()):  # the second one from kept graphs
        torch.testing.assert_close(saving @ v, plain @ v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("source", [None, seeded(4)], ids=["global", "own"])
def test_shuffled_data_gives_the_same_product_to_the_bit_whatever_was_drawn_in_between(kind, source):
    case = make("conv_bn")
    loader = DataLoader(TensorDataset(case.inputs, case.targets), batch_size=11, shuffle=True, generator=source)
    operator = OPERATORS[kind](case.problem(data=loader, batch_norm="batch"))
    v = operator.w.cos()
    first = operator @ v
    torch.rand(5)
    next(iter(loader))
    assert torch.equal(operator @ v, first)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", OPERATORS)
def test_products_where_the_caller_has_switched_derivatives_off(kind, off):
    problem = make("conv_bn").problem()
    expected = OPERATORS[kind](problem).matvec(OPERATORS[kind](problem).w)
    with off():
        operator = OPERATORS[kind](problem)
        found = operator.matvec(operator.w)
    assert torch.equal(found, expected)
    assert torch.equal(operator.matvec(operator.w.clone()), expected)


@pytest.mark.parametrize("kind", OPERATORS)
def test_a_block_of_vectors_is_the_vectors_one_by_one(kind):
    operator = OPERATORS[kind](make("conv_bn").problem())
    block = torch.stack([operator.w.cos(), operator.w.sin(), operator.w], dim=1)
    single = torch.stack([operator @ v for v in block.T], dim=1)
    torch.testing.assert_close(operator @ block, single, rtol=1e-12, atol=1e-14)


def test_the_data_is_read_once_where_the_graphs_fit_in_memory(request):
    class Loader(list):
        reads = 0

        def __iter__(self):
            self.reads += 1
            return super().__iter__()

    case = make("mlp")
    H = hessian(case.problem(data=(loader := Loader([*case.batches, *case.batches]))))
    for _ in range(3):
        H @ H.w
    assert loader.reads == (1 if "kept" in request.node.name else 3)


@pytest.mark.parametrize("make_operator", [hessian, ggn, fisher])
def test_w_must_fit(make_operator):
    with pytest.raises(ValueError, match=r"w must be \(51,\) float64 on cpu, got \(50,\) float64 on cpu"):
        make_operator(make("mlp").problem(), w=torch.zeros(50, dtype=torch.float64))


class Drawing:
    """A data set that draws from a generator of its own."""

    def __init__(self):
        self.source = seeded(0)

    def __iter__(self):
        return iter([(torch.randn(5, 4, generator=self.source).double(), torch.arange(5) % 3)])


@pytest.mark.parametrize("name", ["hessian", "ggn", "empirical"])
def test_data_that_are_others_at_each_pass_are_refused_unless_kept(name):
    problem = Problem(nn.Linear(4, 3).double(), nn.functional.cross_entropy, Drawing())
    kept = OPERATORS[name](problem.with_batches_kept())
    v = torch.ones(problem.size).double()
    torch.testing.assert_close(kept @ v, kept @ v, rtol=1e-12, atol=1e-14)
    changing = OPERATORS[name](problem)
    first = changing @ v
    if over_data.BATCHES:  # the operator has kept them itself
        torch.testing.assert_close(changing @ v, first, rtol=1e-12, atol=1e-14)
    else:
        with pytest.raises(ValueError, match=r"^data must give the same batches at every pass.*with_batches_kept"):
            changing @ v
