from functools import partial

import pytest
import torch
from cases import Recurrent, normal, seeded
from torch import nn
from torch.nn import functional as F

from landscape.curvature import fisher, ggn, hessian
from landscape.curvature.blocks import direct_sum, layers
from landscape.curvature.columns import SMALL_LAYER, SMALL_NETWORK, columns_at_once
from landscape.linalg import top_eigenpairs
from landscape.problem import Problem

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class ChannelsLast(nn.Module):
    """Max pool after a convolution in channels-last format, which vmap runs one column after another."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 12, 3), nn.Linear(48, 3)

    def forward(self, x):
        z = torch.tanh(self.conv(x.to(memory_format=torch.channels_last)))
        return self.head(F.max_pool2d(z, 2).flatten(1))


NETWORKS = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), (4,)),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 3)), (2, 6, 6)),
    "rectified": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 12, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
        ),
        (2, 6, 6),
    ),
    "norm": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)), (4,)),
    "channels_last": (ChannelsLast, (2, 6, 6)),
    "recurrent": (partial(Recurrent, 4, 3), (3, 4)),
}


def problem_of(name, dtype=torch.float32):
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make().to(dtype)
    data = [(normal(n, *shape, seed=n, dtype=dtype), torch.randint(3, (n,), generator=seeded(n))) for n in (9, 6)]
    return Problem(net, F.cross_entropy, data)


def test_the_rule_looks_at_sizes_and_device_alone():
    assert columns_at_once([SMALL_LAYER, 10, SMALL_LAYER], CPU) == 4
    assert columns_at_once([1], CPU) == 4
    assert columns_at_once([10, SMALL_LAYER + 1], CPU) == 1  # the largest layer decides
    assert columns_at_once([SMALL_LAYER] * 10**4, CPU) == 4
    assert columns_at_once([SMALL_NETWORK], GPU) == 8
    assert columns_at_once([SMALL_NETWORK // 2] * 2, GPU) == 8
    assert columns_at_once([SMALL_NETWORK, 1], GPU) == 1  # the whole network decides


@pytest.mark.parametrize("kind", [hessian, ggn, fisher])
def test_an_operator_follows_the_rule_unless_it_is_told(kind):
    small = problem_of("perceptron")
    with torch.random.fork_rng(devices=[]):
        wide = Problem(nn.Linear(3000, 3), F.cross_entropy, [(torch.zeros(2, 3000), torch.tensor([0, 1]))])
    assert kind(small).columns == kind(small).chunk == 4
    assert kind(wide).columns == 1
    assert kind(small, chunk=1).columns == 1
    assert kind(wide, chunk=7).columns == 7
    with pytest.raises(ValueError, match="chunk must be an integer at least 1, got 0"):
        kind(small, chunk=0)


KINDS = {
    "hessian": hessian,
    "forward over reverse": lambda p, **settings: hessian(p, mode="forward_over_reverse", **settings),
    "ggn": ggn,
    "empirical": lambda p, **settings: fisher(p, "empirical", **settings),
    "sampled": lambda p, **settings: fisher(p, "sampled", **settings),
}


@pytest.mark.parametrize("name", ["convolution", "norm", "rectified"])
@pytest.mark.parametrize("kind", KINDS)
def test_columns_at_once_are_the_columns_one_by_one(kind, name):
    problem = problem_of(name, torch.float64)
    V = normal(problem.size, 6, seed=2)  # in chunks of four and two
    alone = KINDS[kind](problem, chunk=1)
    singles = torch.stack([alone @ v for v in V.T], dim=1)
    for chunk, memory in ((None, None), (6, 0)):
        together = KINDS[kind](problem, chunk=chunk, memory=memory)
        torch.testing.assert_close(together @ V, singles, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(together @ V, singles, rtol=1e-10, atol=1e-13)  # from kept graphs
        assert together.chunk == (chunk or 4)


def test_the_same_call_gives_the_same_bits():
    problem = problem_of("convolution")
    V = normal(problem.size, 6, seed=2).float()
    assert torch.equal(hessian(problem) @ V, hessian(problem) @ V)
    found = [top_eigenpairs(hessian(problem), 2, generator=seeded(1)) for _ in range(2)]
    assert torch.equal(found[0].vectors, found[1].vectors)


@pytest.mark.parametrize("kind", ["hessian", "ggn", "empirical"])
@pytest.mark.parametrize("name", ["channels_last", "recurrent"])
def test_one_column_at_a_time_where_vmap_does_not_know_an_operation(name, kind):
    problem = problem_of(name)
    V = normal(problem.size, 5, seed=2).float()
    operator = KINDS[kind](problem)
    assert operator.chunk == 4
    singles = torch.stack([KINDS[kind](problem, chunk=1) @ v for v in V.T], dim=1)
    for _ in range(2):
        torch.testing.assert_close(operator @ V, singles, rtol=1e-4, atol=1e-6)
        assert operator.chunk == operator.columns == 1  # and does not try again
    assert operator.mode == "double_backward"
    assert operator.verified is None or operator.verified < 2e-2


def test_asking_for_columns_at_once_is_met_with_one_where_it_must_be():
    problem = problem_of("recurrent")
    V = normal(problem.size, 3, seed=2).float()
    H = hessian(problem, chunk=3, mode="double_backward")
    torch.testing.assert_close(H @ V, torch.stack([hessian(problem) @ v for v in V.T], dim=1), rtol=1e-4, atol=1e-6)
    assert H.chunk == 1


def test_blocks_side_by_side_take_columns_too():
    problem = problem_of("convolution", torch.float64)
    V = normal(problem.size, 5, seed=2)
    together, alone = (direct_sum(problem, layers(problem)) for _ in range(2))
    torch.testing.assert_close(together @ V, torch.stack([alone @ v for v in V.T], dim=1), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("columns", "width"), [(4, 1), (8, 4)])
def test_eigenpairs_take_a_block_only_where_columns_together_save_much(columns, width):
    problem = problem_of("convolution")
    H, widths = hessian(problem, chunk=columns), []
    product = H._product

    def noted(block):
        widths.append(block.shape[1])
        return product(block)

    H._product = noted
    top_eigenpairs(H, 10)
    assert max(widths) == width


def test_a_block_after_a_single_product_of_a_network_that_vmap_does_not_know():
    torch.manual_seed(0)
    net = nn.LSTM(4, 5, batch_first=True)
    data = [(torch.randn(8, 3, 4), torch.randn(8, 3, 5))]
    H = hessian(Problem(net, nn.functional.mse_loss, data, forward=lambda model, x: model(x)[0]))
    V = torch.randn(H.shape[0], 2)
    single = H @ V[:, 0].contiguous()
    assert torch.equal((H @ V)[:, 0], single)
