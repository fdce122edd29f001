"""Networks outside the ordinary by what they compute."""

from typing import Any

import torch
from cases import LoRA
from kinds import Network, generic, kind, labels, normal
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

ALL_DERIVATIVES = ("gradient", "hessian", "ggn", "empirical")


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = F.gelu(self.first(x))
        deep = F.gelu(self.down(F.avg_pool2d(wide, 2)))
        return self.last(torch.cat([wide, self.up(deep)], 1))  # (B, 3, H, W)


@kind("U-Net, a class for each pixel")
def unet() -> Network:
    return Network(
        generic(UNet()), F.cross_entropy, [(normal(n, 1, 6, 6), torch.randint(3, (n, 6, 6))) for n in (3, 2)]
    )


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        packed = pack_padded_sequence(inputs["x"], inputs["lengths"].cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.lstm(packed)[1][0][-1])


@kind("LSTM on packed sequences")
def lstm() -> Network:
    batches = [({"x": normal(n, 5, 3), "lengths": 1 + torch.arange(n) % 5}, labels(n)) for n in (6, 4)]
    return Network(generic(Packed()), F.cross_entropy, batches)


class GraphNet(nn.Module):
    def __init__(self, adjacency: Tensor) -> None:
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.adjacency @ self.last(torch.tanh(self.adjacency @ self.first(x)))


def graph(sparse: Any) -> Network:
    adjacency = (torch.rand(12, 12) < 0.3).double() + torch.eye(12)
    dense = generic(GraphNet(adjacency))
    net = GraphNet(sparse(adjacency)).double()
    net.load_state_dict(dense.state_dict() | {"adjacency": net.adjacency})
    return Network(net, F.cross_entropy, [(normal(12, 4), labels(12))], plain=(dense, None))


@kind("Graph network, sparse adjacency in COO", note="A node counts as a sample.")
def graph_coo() -> Network:
    return graph(lambda dense: dense.to_sparse())


@kind("Graph network, sparse adjacency in CSR")
def graph_csr() -> Network:
    return graph(lambda dense: dense.to_sparse_csr())


@kind("Graph network, sparse adjacency in the data")
def graph_in_data() -> Network:
    net = graph(lambda dense: dense)
    (x, t), adjacency = net.batches[0], net.model.adjacency.to_sparse()

    def forward(m: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:
        x, adjacency = inputs
        return adjacency @ m.last(torch.tanh(adjacency @ m.first(x)))

    return Network(net.model, F.cross_entropy, [((x, adjacency), t)], forward)


@kind("LoRA at B = 0", note="Half of the gradient is zero there, and so is the block of A in H.")
def lora_zero() -> Network:
    return Network(LoRA(5, 6).double(), F.cross_entropy, [(normal(n, 5), labels(n)) for n in (7, 4)])


@kind("LoRA, trained")
def lora() -> Network:
    return Network(generic(LoRA(5, 6)), F.cross_entropy, [(normal(n, 5), labels(n)) for n in (7, 4)])


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router, self.head = nn.Linear(4, 3), nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.router(x).softmax(1).topk(2, 1)
        mixed = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            row, place = (chosen == i).nonzero(as_tuple=True)
            mixed = mixed.index_add(0, row, share[row, place, None] * torch.tanh(expert(x[row])))
        return self.head(mixed)


@kind("Mixture of experts, top 2", kinks=True, note="The derivative at a fixed choice of experts.")
def experts() -> Network:
    return Network(generic(Experts()), F.cross_entropy, [(normal(n, 4), labels(n)) for n in (6, 3)])


class Implicit(torch.autograd.Function):
    """z = tanh(W z + U x), by iteration; backward solves a linear system, as torchdeq and others do."""

    @staticmethod
    def forward(ctx: Any, W: Tensor, Ux: Tensor) -> Tensor:
        z = torch.zeros_like(Ux)
        for _ in range(100):
            z = torch.tanh(z @ W.T + Ux)
        ctx.save_for_backward(W, z)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        W, z = ctx.saved_tensors
        slope = 1 - z**2  # (B, D); u = slope * (g + Wᵀ u)
        system = torch.eye(len(W), dtype=W.dtype) - slope[:, :, None] * W.T
        u = torch.linalg.solve(system, (slope * g)[:, :, None])[:, :, 0]
        return u.T @ z, u


class Equilibrium(nn.Module):
    def __init__(self, implicit: bool) -> None:
        super().__init__()
        self.W, self.implicit = nn.Parameter(torch.zeros(5, 5)), implicit
        self.U, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.implicit:
            return self.head(Implicit.apply(self.W, self.U(x)))
        z = torch.zeros(len(x), 5, dtype=x.dtype)
        for _ in range(100):
            z = torch.tanh(z @ self.W.T + self.U(x))
        return self.head(z)


def twins(twin: nn.Module, net: nn.Module, batches: list[tuple[Any, Any]]) -> Network:
    generic(twin, 0.1)
    net.double().load_state_dict(twin.state_dict())
    return Network(net, F.cross_entropy, batches, plain=(twin, None))


@kind(
    "Deep equilibrium, implicit backward marked once_differentiable",
    note="By differences: of gradients for H, of outputs for G.",
)
def equilibrium() -> Network:
    return twins(Equilibrium(False), Equilibrium(True), [(normal(n, 4), labels(n)) for n in (5, 3)])


class Recomputed(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.first, self.last, self.reentrant = nn.Linear(4, 5), nn.Linear(5, 3), reentrant
        self.block = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        if self.reentrant is None:
            return self.last(torch.tanh(self.block(h)))
        return self.last(torch.tanh(checkpoint(self.block, h, use_reentrant=self.reentrant)))


@kind("Activation checkpointing")
def checkpointed() -> Network:
    return twins(Recomputed(None), Recomputed(False), [(normal(n, 4), labels(n)) for n in (7, 4)])


class RecomputedTransformer(nn.Module):
    """Blocks under checkpoint_sequential, in evaluation too, as timm's `grad_checkpointing` has it."""

    def __init__(self, saving: bool) -> None:
        super().__init__()
        layers = [nn.TransformerEncoderLayer(4, 2, 5, batch_first=True, activation="gelu") for _ in range(2)]
        self.blocks, self.head, self.saving = nn.Sequential(*layers), nn.Linear(4, 3), saving

    def forward(self, x: Tensor) -> Tensor:
        h = checkpoint_sequential(self.blocks, 2, x, use_reentrant=False) if self.saving else self.blocks(x)
        return self.head(h.mean(1))


@kind("Attention under activation checkpointing")
def checkpointed_attention() -> Network:
    batches = [(normal(n, 4, 4), labels(n)) for n in (5, 3)]
    return twins(RecomputedTransformer(False), RecomputedTransformer(True), batches)


@kind(
    "Activation checkpointing, reentrant",
    refused=dict.fromkeys(ALL_DERIVATIVES, "reentrant"),
    note="torch gives no gradients by torch.autograd.grad through it; pass `use_reentrant=False`.",
)
def reentrant() -> Network:
    return twins(Recomputed(None), Recomputed(True), [(normal(n, 4), labels(n)) for n in (7, 4)])


class Spectral(nn.Module):
    """Weights in Fourier space, real numbers in, real numbers out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(5, 2)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        modes = torch.fft.rfft(x, dim=1) * torch.view_as_complex(self.weight)
        return self.head(torch.tanh(torch.fft.irfft(modes, n=8, dim=1)))


@kind("Fourier layer with real weights")
def fourier() -> Network:
    return Network(generic(Spectral()), F.cross_entropy, [(normal(n, 8), labels(n)) for n in (6, 3)])


@kind("Ensemble by torch.func.vmap over stacked weights")
def ensemble() -> Network:
    class Ensemble(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Parameter(torch.zeros(3, 5, 4)), nn.Parameter(torch.zeros(3, 3, 5))

        def forward(self, x: Tensor) -> Tensor:
            one = torch.func.vmap(lambda first, last: F.linear(torch.tanh(F.linear(x, first)), last))
            return one(self.first, self.last).mean(0)

    return Network(generic(Ensemble()), F.cross_entropy, [(normal(n, 4), labels(n)) for n in (6, 3)])


@kind("torch's TransformerEncoder, padded")
def encoder() -> Network:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.1, batch_first=True, activation="gelu")
            self.encoder, self.head = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(4, 3)

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            return self.head(self.encoder(inputs["x"], src_key_padding_mask=inputs["padding"])[:, 0])

    padding = torch.zeros(5, 4, dtype=torch.bool)
    padding[::2, 2:] = True
    batches = [({"x": normal(n, 4, 4), "padding": padding[:n]}, labels(n)) for n in (5, 3)]
    return Network(generic(Encoder()), F.cross_entropy, batches)
