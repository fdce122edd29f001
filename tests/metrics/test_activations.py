import pytest
import torch
from cases import everything, make, normal, same
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.metrics import activations, active_neurons
from landscape.models import build
from landscape.problem import Problem


class Net(nn.Module):
    """A rectifier as a module, called twice, and one as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(3, 4), nn.Linear(4, 5), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        return F.gelu(self.relu(self.second(x)) - 0.5)


def problem() -> Problem:
    data = [(normal(6, 3), torch.zeros(6).long()), (normal(2, 3, seed=1), torch.zeros(2).long())]
    return Problem(Net().double(), F.cross_entropy, data)


def test_shares_and_norms_by_hand_over_unequal_batches() -> None:
    net = problem()
    x = torch.cat([inputs for inputs, _ in net.data])
    with torch.no_grad():
        one = net.model.first(x).relu()
        two = net.model.second(one).relu()
        three = F.gelu(two - 0.5)
    found = activations(net)
    assert found.names == ["relu", ""]
    assert found.active[0].item() == pytest.approx(float(((one > 0).sum() + (two > 0).sum()) / (8 * 9)))
    assert found.active[1].item() == pytest.approx(float((three > 0).double().mean()))
    assert found.norm[0].item() == pytest.approx(float(torch.cat([one.norm(dim=1), two.norm(dim=1)]).mean()))
    assert found.norm[1].item() == pytest.approx(float(three.norm(dim=1).mean()))
    everywhere = torch.cat([one.flatten(), two.flatten(), three.flatten()])
    assert active_neurons(net).value.item() == pytest.approx(float((everywhere > 0).double().mean()))


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_bundled_networks_by_block(name: str) -> None:
    settings = {"resnet": {"width": 4}, "vit": {"dim": 8, "depth": 2, "heads": 2}}[name]
    net = Problem(build(name, settings, seed=0), F.cross_entropy, [(torch.randn(4, 1, 8, 8), torch.arange(4))])
    before = everything(net.model)
    found = activations(net)
    assert len(found.names) == {"resnet": 7, "vit": 2}[name]  # two a block and the stem; one a block
    assert ((found.active > 0) & (found.active < 1)).all()
    assert same(everything(net.model), before)


def test_hooks_go_when_the_pass_fails() -> None:
    net = problem()
    with pytest.raises(ValueError, match="the loss is nan"):
        activations(Problem(net.model, lambda z, t: z.sum() * float("nan"), net.data))
    assert all(not m._forward_pre_hooks and not m._forward_hooks for m in net.model.modules())


def test_networks_without_rectifiers_are_told() -> None:
    with pytest.raises(ValueError, match="the network must call a rectifier such as relu or gelu, got none"):
        activations(make("mlp").problem())
