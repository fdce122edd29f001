"""Activations computed anew: the numbers are the same, and a product holds the graph of one module at a time."""

import pytest
import torch
from cases import everything, make, same
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import landscape as ls
from landscape.curvature import fisher, hessian_blocks, product_memory
from landscape.problem import Problem

CURVATURES = {
    "hessian": ls.hessian,
    "ggn": ls.ggn,
    "exact": lambda problem, **settings: fisher(problem, "exact", **settings),
    "empirical": lambda problem, **settings: fisher(problem, "empirical", **settings),
}


class Block(nn.Module):
    """Attention and two layers around what goes in."""

    def __init__(self, width=6):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.layers = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.layers(x)


class Tied(nn.Module):
    """A small transformer whose tokens' embedding is its last layer, too."""

    def __init__(self, blocks=3):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 6)
        self.blocks = nn.Sequential(*[Block() for _ in range(blocks)])

    def forward(self, tokens):
        return (self.blocks(self.embedding(tokens)) @ self.embedding.weight.T).mean(1)


def tied(recompute=None):
    source = torch.Generator().manual_seed(1)
    tokens, targets = (torch.randint(7, shape, generator=source) for shape in ((10, 4), (10,)))
    batches = [(tokens[:4], targets[:4]), (tokens[4:], targets[4:])]
    return Problem(Tied().double(), F.cross_entropy, batches, recompute=recompute)


def blocks(_name, module):
    return isinstance(module, Block)


def equal(found, right):
    torch.testing.assert_close(found, right, rtol=1e-11, atol=1e-13 * float(right.abs().max()))


@pytest.mark.parametrize("name", CURVATURES)
@pytest.mark.parametrize("memory", [0, None])
@pytest.mark.parametrize("chosen", [blocks, ["blocks.1", "blocks.1.layers", "blocks.2"], ["blocks"]])
def test_products_are_those_of_activations_that_are_kept(name, memory, chosen):
    right, problem = tied(), tied(chosen)
    V = torch.randn(right.size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    A, B = (CURVATURES[name](each, memory=memory) for each in (problem, right))
    equal(A @ V, B @ V)
    equal(A @ V[:, 0], B @ V[:, 0])
    assert A.mode == B.mode == "double_backward"


def test_loss_gradient_blocks_and_other_weights():
    right, problem = tied(), tied(blocks)
    w = right.vector() + 0.1 * torch.randn(right.size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert problem.loss(w) == right.loss(w)
    equal(problem.gradient(w), right.gradient(w))
    equal(ls.hessian(problem, w) @ w, ls.hessian(right, w) @ w)
    for own, other in zip(hessian_blocks(problem).values(), hessian_blocks(right).values(), strict=True):
        equal(own @ own.w, other @ other.w)
    some = [name for name in right.layout.names if "blocks.1.layers" in name]
    of_some = [Problem(each.model, F.cross_entropy, each.data, parameters=some, recompute=r) for each, r in
               ((right, None), (problem, blocks))]  # fmt: skip
    equal(ls.hessian(of_some[1]) @ of_some[1].vector(), ls.hessian(of_some[0]) @ of_some[0].vector())


@pytest.mark.parametrize("policy", ["eval", "batch", "recompute"])
def test_batch_norm_under_each_policy_and_the_model_as_it_was(policy):
    case = make("conv_bn")
    data = (case.inputs, case.targets)
    right = Problem(case.model, F.cross_entropy, data, batch_norm=policy)
    problem = Problem(case.model, F.cross_entropy, data, batch_norm=policy, recompute=lambda name, _: name == "1")
    before = everything(case.model)
    equal(ls.hessian(problem) @ right.vector(), ls.hessian(right) @ right.vector())
    assert same(everything(case.model), before)
    assert not any("forward" in vars(module) for module in case.model.modules())


class Forms(nn.Module):
    """Modules that are called by keywords, twice, and give several things, of which some are no function of weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = Several(), Several()
        self.second.layer = self.first.layer  # one weight in two modules
        self.normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)), nn.Tanh())

    def forward(self, x):
        a, _, (b, places) = self.first(x, scale=2.0)
        a, _, (c, _) = self.second(a.sin(), scale=0.5)
        a, _, (d, _) = self.second(a * b, scale=0.5)
        return self.normed(self.normed(a + c * d)) + places[:, None] * a


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.other = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x, *, scale):
        y = scale * self.layer(x).tanh()
        return y + self.other(y), None, (self.other(x), torch.arange(len(x)))


def test_modules_of_many_forms():
    source = torch.Generator().manual_seed(3)
    x, y = (torch.randn(6, 5, dtype=torch.float64, generator=source) for _ in range(2))
    model = Forms().double()
    right = Problem(model, F.mse_loss, (x, y))
    problem = Problem(model, F.mse_loss, (x, y), recompute=["first", "second", "normed"])
    for curvature in CURVATURES.values():
        if curvature is CURVATURES["exact"]:
            continue
        equal(curvature(problem) @ right.vector(), curvature(right) @ right.vector())


def test_third_and_fourth_derivatives_of_a_loss_that_has_some_of_its_own():
    """-u'' = f, by derivatives of the network inside the loss."""

    def residual(model, x):
        x = x.requires_grad_()
        u = model(x)
        slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        return torch.autograd.grad(slope.sum(), x, create_graph=True)[0]

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(1, 5), nn.Tanh(), nn.Sequential(nn.Linear(5, 5), nn.Tanh()), nn.Linear(5, 1)
    ).double()
    data = (torch.linspace(0, 1, 7, dtype=torch.float64)[:, None], torch.ones(7, 1, dtype=torch.float64))
    right = Problem(model, F.mse_loss, data, forward=residual)
    problem = Problem(model, F.mse_loss, data, forward=residual, recompute=["2"])
    equal(problem.gradient(), right.gradient())
    equal(ls.hessian(problem) @ right.vector(), ls.hessian(right) @ right.vector())


def test_random_numbers_and_autocast_are_those_of_the_first_time():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 8), Noise(), nn.Tanh()), Noise(), nn.Linear(8, 2))
    x, y = torch.randn(9, 4), torch.randn(9, 2)

    def cast(model, x):
        with torch.autocast("cpu", torch.bfloat16):
            return model(x).float()

    for forward in (None, cast):
        right, problem = (
            Problem(model, F.mse_loss, (x, y), forward=forward, draws=4, recompute=r) for r in (None, ["1"])
        )
        assert torch.equal(problem.gradient(), right.gradient())
        u, v = (ls.hessian(each, mode="double_backward", verify=False) @ right.vector() for each in (problem, right))
        torch.testing.assert_close(u, v, rtol=0, atol=(2e-2 if forward else 1e-5) * float(v.norm()))


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def deep(recompute=None, wrapped=False):
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 16)) for _ in range(12)]
    model = nn.Sequential(*layers)
    forward = (lambda _, x: run_checkpointed(layers, x)) if wrapped else None
    x = torch.randn(500, 16)
    return Problem(model, F.mse_loss, (x, x.sin()), forward=forward, recompute=recompute)


def run_checkpointed(layers, x):
    for layer in layers:
        x = checkpoint(layer, x, use_reentrant=False)
    return x


@pytest.mark.parametrize("name", ["hessian", "ggn", "empirical"])
def test_a_product_holds_less_which_torchs_checkpointing_cannot_give_it(name):
    told = {
        kind: product_memory(CURVATURES[name](problem, memory=0, verify=False))
        for kind, problem in {
            "kept": deep(),
            "torch": deep(wrapped=True),
            "anew": deep(lambda name, module: "." not in name and isinstance(module, nn.Sequential) and name),
        }.items()
    }
    assert told["anew"] < 0.4 * told["kept"]
    assert told["torch"] > 0.9 * told["kept"]


class Cache:
    def __init__(self):
        self.seen = []


class Cached(nn.Linear):
    def forward(self, x, cache):
        cache.seen.append(len(x))
        return super().forward(x) * len(cache.seen)


class Outside(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.read = lambda: layer.weight

    def forward(self, x):
        return x @ self.read()


class Into(nn.Module):
    def forward(self, x):
        return x.mul_(2)


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return x * self.seen


def refused(model, forward=None, chosen=("1",)):
    problem = Problem(model, F.mse_loss, (torch.ones(3, 4), torch.ones(3, 4)), forward=forward, recompute=list(chosen))
    return problem.gradient()


def test_what_would_be_another_function_is_refused_in_one_line():
    first = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="module '1' uses weights that are neither its own nor its arguments"):
        refused(nn.Sequential(first, Outside(first)))
    with pytest.raises(ValueError, match="module '1' writes into its inputs or buffers; leave it out of recompute="):
        refused(nn.Sequential(first, Into()))
    with pytest.raises(ValueError, match="module '1' writes into its inputs or buffers"):
        refused(nn.Sequential(first, Counted()))
    with pytest.raises(ValueError, match="takes Cache, which it may change; for a cache pass use_cache=False"):
        refused(nn.Sequential(first, Cached(4, 4)), lambda model, x: model[1](model[0](x), Cache()))


@pytest.mark.parametrize(
    ("recompute", "message"),
    [
        (["nothing"], r"recompute must name modules of the model, got \['nothing'\]; it has \['embedding'"),
        (lambda *_: False, "recompute must choose a module, got none"),
    ],
)
def test_a_choice_of_nothing_is_refused(recompute, message):
    with pytest.raises(ValueError, match=message):
        tied(recompute)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_torchscript_is_refused():
    model = nn.Sequential(torch.jit.script(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="must choose modules of Python, got TorchScript"):
        Problem(model, F.mse_loss, (torch.ones(1, 2), torch.ones(1, 2)), recompute=["0"])


def test_forward_over_reverse_says_that_it_cannot():
    with pytest.raises(ValueError, match="no forward derivative"):
        ls.hessian(tied(blocks), mode="forward_over_reverse") @ tied().vector()
