"""Networks outside the ordinary by how torch runs or stores them."""

from collections.abc import Callable
from typing import Any

import torch
from kinds import QUANTITIES, Network, generic, kind, labels, normal
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def vectors(model: nn.Module, **given: Any) -> Network:
    return Network(model, F.cross_entropy, [(normal(n, 4), labels(n)) for n in (7, 4)], **given)


def convolutions() -> nn.Sequential:
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 4, 3, stride=2), nn.GELU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def pictures(model: nn.Module) -> Network:
    return Network(model, F.cross_entropy, [(normal(n, 2, 6, 6), labels(n)) for n in (5, 3)])


@kind("torch.compile (aot_eager)", note="Runs uncompiled: compiled graphs have no second derivative.")
def compiled() -> Network:
    net = generic(perceptron())
    return vectors(torch.compile(net, backend="aot_eager"), plain=(net, None))


@kind("torch.jit.script")
def scripted() -> Network:
    net = generic(perceptron())
    return vectors(torch.jit.script(net), plain=(net, None))


@kind("DataParallel")
def data_parallel() -> Network:
    net = generic(perceptron())
    return vectors(nn.DataParallel(net), plain=(net, None))


ROUNDED = "The operator of the network as it rounds: some percent off that in float64; `dtype=` analyses it there."


@kind("bfloat16 weights", tolerance=0.1, note=ROUNDED)
def bfloat16() -> Network:
    net = generic(perceptron()).bfloat16()
    plain = net, lambda m, x: m(x)
    batches = [(x.bfloat16().double(), t) for x, t in vectors(net).batches]
    return Network(net, F.cross_entropy, batches, lambda m, x: m(x.bfloat16()).float(), plain=plain)


@kind("Autocast to bfloat16 in forward", tolerance=0.1, note=ROUNDED)
def autocast() -> Network:
    net = generic(perceptron()).float()

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return m(x.float()).float()

    return vectors(net, forward=forward, plain=(net, lambda m, x: m(x)))


@kind("Convolutions in channels-last order")
def channels_last() -> Network:
    net = pictures(generic(convolutions()).to(memory_format=torch.channels_last))
    net.batches = [(x.to(memory_format=torch.channels_last), t) for x, t in net.batches]
    return net


@kind("SyncBatchNorm on stored statistics")
def sync_batch_norm() -> Network:
    net = convolutions()
    net.insert(1, nn.BatchNorm2d(4))
    net[1].running_mean, net[1].running_var = torch.randn(4), torch.rand(4) + 0.5
    return pictures(generic(nn.SyncBatchNorm.convert_sync_batchnorm(net)))


class Int8(nn.Module):
    """A frozen layer of int8 weights and one scale a row, as QLoRA's base has it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randint(-100, 100, (5, 5), dtype=torch.int8), requires_grad=False)
        self.register_buffer("scale", torch.rand(5, 1) / 100)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype) * self.scale)


@kind("Frozen int8 weights between trained layers")
def int8() -> Network:
    trained = generic(perceptron())
    return vectors(nn.Sequential(trained[0], Int8().double(), *trained[1:]))


@kind("A quantised encoder in front (torch.ao)", note="The trained layers alone are parameters.")
def quantised() -> Network:
    class Front(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = generic(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
            self.encoder = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 5)), {nn.Linear})

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(x.float()).double())

    return vectors(Front())


def with_twin(change: Callable[[nn.Module], object]) -> Network:
    """A changed layer, left as a training step leaves it: the weight that its hook computed has a graph."""
    net, twin = perceptron(), perceptron()
    for model in (net, twin):
        change(model[0])
    generic(net)
    twin.double().load_state_dict(net.state_dict())
    found = vectors(net, plain=(twin, None))
    with torch.no_grad():
        twin(found.batches[0][0])
    net(found.batches[0][0])
    return found


@kind("weight_norm, hook")
def weight_norm_hook() -> Network:
    return with_twin(weight_norm)


@kind("weight_norm, parametrization")
def weight_norm_parametrization() -> Network:
    net = perceptron()
    parametrizations.weight_norm(net[0])
    return vectors(generic(net))


@kind("spectral_norm, hook", note="The vectors of its power iteration are held fixed.")
def spectral_norm_hook() -> Network:
    net = perceptron()
    spectral_norm(net[0])
    return vectors(generic(net))


@kind("spectral_norm, parametrization", note="The vectors of its power iteration are held fixed.")
def spectral_norm_parametrization() -> Network:
    net = perceptron()
    parametrizations.spectral_norm(net[0])
    return vectors(generic(net))


@kind("Orthogonal parametrization")
def orthogonal() -> Network:
    net = perceptron()
    parametrizations.orthogonal(net[0], orthogonal_map="cayley")
    return vectors(generic(net))


@kind("A parametrization of one's own")
def parametrised() -> Network:
    class Positive(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.softplus(x)

    net = perceptron()
    parametrize.register_parametrization(net[0], "weight", Positive())
    return vectors(generic(net))


@kind("Pruned weights", note="Pruned entries have zero rows in H.")
def pruned() -> Network:
    return with_twin(lambda layer: prune.l1_unstructured(layer, "weight", 0.4))


def words(**settings: Any) -> Network:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(6, 4, **settings), nn.Linear(4, 3)

        def forward(self, i: Tensor) -> Tensor:
            return self.head(torch.tanh(self.table(i)).sum(1))

    net = generic(Words())
    net.table.weight.data *= 0.1
    return Network(net, F.cross_entropy, [(torch.randint(6, (n, 3)), labels(n)) for n in (7, 4)])


@kind("Embedding with sparse gradients")
def sparse_embedding() -> Network:
    return words(sparse=True)


@kind("Embedding with max_norm, rows inside", note="Rows outside are first brought to the sphere, as torch does.")
def max_norm_embedding() -> Network:
    return words(max_norm=5.0)


@kind("Nested jagged inputs", note="torch has no second derivative of the padding: by differences.")
def jagged() -> Network:
    class Jagged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = F.gelu(self.first(x))
            return self.last(torch.nested.to_padded_tensor(h, 0.0).sum(1))

    def ragged(n: int) -> Tensor:
        return torch.nested.nested_tensor([normal(1 + i % 3, 4) for i in range(n)], layout=torch.jagged)

    return Network(generic(Jagged()), F.cross_entropy, [(ragged(n), labels(n)) for n in (6, 4)])


@kind("A parameter without entries")
def empty() -> Network:
    class Empty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.nothing, self.last = nn.Linear(4, 5), nn.Parameter(torch.zeros(0, 3)), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x))) + self.nothing.sum()

    return vectors(generic(Empty()))


@kind(
    "Complex parameters",
    refused=dict.fromkeys(QUANTITIES, "complex"),
    note="A loss is no analytic function of them; keep real and imaginary parts as real parameters.",
)
def complex_weights() -> Network:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 5).to(torch.complex128), nn.Linear(5, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x + 0j).abs())

    return vectors(Complex())
