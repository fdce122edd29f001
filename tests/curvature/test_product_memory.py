"""The memory of a product told before it is made, against the bytes that are allocated for it then."""

import pytest
import torch
from allocated import held_by_two_products, most_held
from cases import everything, make, same
from torch import nn
from torch.nn import functional as F

import landscape as ls
from landscape.autograd.peak_memory import without_numbers
from landscape.curvature import product_memory

STATES = 2 * 5056  # bytes of torch's random state, put back after a product, twice
CONVOLUTIONS = ("convolutions", "conv_bn", "recomputed")  # their kernels have columns of their own beside tensors


def sums():
    x = torch.empty(1000, dtype=torch.float64)
    y = x + 1
    del x
    z = y[:10] * y[0]  # 80 bytes beside y
    return y, z, torch.empty(500, dtype=torch.float64)


def test_bytes_are_counted_as_long_as_they_are_held():
    assert most_held(sums) == pytest.approx(16000, abs=100)
    with without_numbers() as peak:
        kept = sums()
        assert peak.now == 8000 + 80 + 4000
    assert peak.peak == 16000
    assert len(kept) == 3


def test_without_numbers_nothing_has_memory_or_value():
    x, mask = torch.ones(4), torch.zeros(10**6, dtype=torch.bool)
    with without_numbers() as peak:
        huge = torch.empty(10**12, 100)
        assert bool((huge[0] == x[0]).all())
        assert float(huge.sum()) == 1
        assert huge[:, 0][: 10**6][mask].shape == (10**6,)
        grown = torch.zeros(10, 10)
        grown[torch.zeros(10, dtype=torch.bool)] = torch.ones(10, 10)
    assert peak.peak >= 4 * 10**14


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[block(16) for _ in range(2)])
        self.head = nn.Linear(16, 50)

    def forward(self, x):
        return self.head(self.layers(x)).transpose(1, 2)


def block(width):
    return nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)


def attention():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        data = [(torch.randn(n, 12, 16), torch.randint(50, (n, 12))) for n in (8, 8, 3)]
        return ls.Problem(Attention(), F.cross_entropy, data)


def wide():
    """Nearly all of it is weights."""
    return ls.Problem(
        nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 2)), F.mse_loss, (torch.ones(2, 300), torch.ones(2, 2))
    )


class LanguageModel(nn.Module):
    """Of GPT-2's proportions: far more of it is embedding than activations."""

    def __init__(self, tied):
        super().__init__()
        self.embedding, self.layers = nn.Embedding(3000, 32), nn.Sequential(*[block(32) for _ in range(2)])
        self.head = nn.Linear(32, 3000, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.layers(self.embedding(ids))).transpose(1, 2)


def language_model(tied):
    ids = torch.arange(5)[None]
    return ls.Problem(LanguageModel(tied), F.cross_entropy, (ids[:, :-1], ids[:, 1:]))


class Thrice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(300, 300)

    def forward(self, x):
        return self.layer(self.layer(self.layer(x).tanh()).tanh())


def convolutions():
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return ls.Problem(nn.Sequential(*layers), F.cross_entropy, (torch.ones(16, 3, 12, 12), torch.arange(16)))


NETWORKS = {
    "tied": lambda: language_model(True),
    "untied": lambda: language_model(False),
    "thrice": lambda: ls.Problem(Thrice(), F.mse_loss, (torch.ones(8, 300), torch.ones(8, 300))),
    "convolutions": convolutions,
    "wide": wide,
    "conv_bn": lambda: make("conv_bn").problem(),
    "attention": attention,
    "recomputed": lambda: make("conv_bn").problem(batch_norm="recompute"),
}
KINDS = {
    "hessian": ls.hessian,
    "ggn": ls.ggn,
    "empirical": lambda problem, **settings: ls.fisher(problem, "empirical", **settings),
    "sampled": lambda problem, **settings: ls.fisher(problem, "sampled", **settings),
}


@pytest.mark.parametrize("memory", [0, 10**9])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_what_the_product_then_holds(name, kind, memory):
    problem = NETWORKS[name]()
    before = everything(problem.model)
    H = KINDS[kind](problem, verify=False, memory=memory)
    told = product_memory(H)
    assert same(everything(problem.model), before)
    assert H.mode == "auto"
    problem.loss()  # what a first evaluation looks at is not of the product
    v = torch.ones(problem.size, dtype=H.dtype)
    held = held_by_two_products(H, v)
    assert told + STATES == pytest.approx(held, rel=0.2 if name in CONVOLUTIONS else 0.05)


def test_of_more_columns_it_tells_more_and_of_pieces_less():
    problem = attention()
    whole = product_memory(ls.hessian(problem, memory=0))
    assert product_memory(ls.hessian(problem, memory=0), 4) > whole
    assert product_memory(ls.hessian(problem, memory=0, micro_batch=2)) < 0.6 * whole
    with pytest.raises(ValueError, match="columns must be an integer at least 1"):
        product_memory(ls.hessian(problem), 0)


def test_a_network_far_beyond_memory_is_told_too():
    """8 × 10⁹ weights: a product holds some vectors of that length, of 4 bytes an entry."""
    with without_numbers():
        model = nn.Linear(10**5, 8 * 10**4, bias=False)
        data = (torch.empty(2, 10**5), torch.empty(2, 8 * 10**4))
        told = product_memory(ls.ggn(ls.Problem(model, F.mse_loss, data), memory=0))
    assert 4 * 8e9 < told < 40 * 8e9
