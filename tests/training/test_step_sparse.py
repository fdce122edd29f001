"""SAM on embeddings with sparse gradients, or with max_norm: the numbers of the plain ones."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls

GENERATOR = torch.Generator().manual_seed(0)
ROWS, LABELS = (
    torch.randint(5, (12, 2), generator=GENERATOR),
    torch.randint(3, (12,), generator=GENERATOR),
)  # row 5: none
START = {
    "table.weight": 0.1 * torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64),
    "last.weight": torch.randn(3, 3, generator=GENERATOR, dtype=torch.float64),
    "last.bias": torch.randn(3, generator=GENERATOR, dtype=torch.float64),
}
PLAIN, SPARSE, SHORT = {}, {"sparse": True}, {"max_norm": 1.0}


class Net(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.table, self.last = nn.Embedding(6, 3, **settings), nn.Linear(3, 3)
        self.double().load_state_dict(START)

    def forward(self, rows: Tensor) -> Tensor:
        return self.last(torch.tanh(self.table(rows)).sum(1))


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def backward(net: nn.Module, optimizer) -> Tensor:
    optimizer.zero_grad()
    loss = F.cross_entropy(net(ROWS), LABELS)
    loss.backward()
    return loss


def trained(embedding: dict, rule, *, steps: int = 3, max_norm: float | None = None, base=torch.optim.SGD, **settings):
    net = Net(**embedding)
    optimizer = ls.SharpnessAware(base(net.parameters(), lr=0.1, **settings), rule, model=net, max_norm=max_norm)
    for _ in range(steps):
        optimizer.step(lambda: backward(net, optimizer))
    return weights(net)


@pytest.mark.parametrize("embedding", [SPARSE, SHORT])
@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (ls.rules.sam(rho=0.05), {}),
        (ls.rules.sam(rho=0.0), {}),
        (ls.rules.asam(rho=0.5), {"momentum": 0.9, "nesterov": True}),
        (ls.rules.gsam(rho=0.05), {"max_norm": 0.05}),
        (ls.rules.looksam(rho=0.05), {"momentum": 0.5}),
    ],
)
def test_steps_are_those_of_a_plain_embedding(embedding: dict, rule, settings) -> None:
    expected, found = (trained(each, rule, **settings) for each in (PLAIN, embedding))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert (expected - weights(Net())).norm() > 1e-3


def test_two_calls_and_parts_of_a_batch_too() -> None:
    found = []
    for embedding in (PLAIN, SPARSE):
        net = Net(**embedding)
        optimizer = ls.SharpnessAware(torch.optim.SGD(net.parameters(), lr=0.1), ls.rules.sam(rho=0.1), model=net)
        backward(net, optimizer)
        optimizer.first_step()
        backward(net, optimizer)
        optimizer.second_step()
        optimizer.step([lambda: backward(net, optimizer)] * 2)  # noqa: B023
        found.append(weights(net))
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-14)


def test_the_base_gets_a_sparse_gradient_of_the_rows_in_use() -> None:
    net = Net(sparse=True)
    base = torch.optim.SparseAdam([net.table.weight], lr=0.1)
    optimizer = ls.SharpnessAware(base, ls.rules.sam(rho=0.0), model=net)
    alone = Net(sparse=True)
    plain = torch.optim.SparseAdam([alone.table.weight], lr=0.1)
    for _ in range(3):
        optimizer.step(lambda: backward(net, optimizer))
        backward(alone, plain)
        plain.step()
    assert sorted(net.table.weight.grad.coalesce().indices()[0].tolist()) == ROWS.unique().tolist()
    torch.testing.assert_close(weights(net), weights(alone), rtol=1e-12, atol=1e-14)


def test_a_max_norm_that_bites_is_the_models_own_doing() -> None:
    found = []
    for aware in (True, False):
        net = Net(max_norm=0.1)
        base = torch.optim.SGD(net.parameters(), lr=0.1)
        optimizer = ls.SharpnessAware(base, ls.rules.sam(rho=0.0), model=net) if aware else base
        for _ in range(3):
            optimizer.step(lambda: backward(net, optimizer))  # noqa: B023
        found.append(weights(net))
    assert torch.equal(*found)
    assert not torch.allclose(found[0], trained(PLAIN, ls.rules.sam(rho=0.0)))
