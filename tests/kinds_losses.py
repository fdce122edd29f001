"""Losses outside the ordinary: inner derivatives, random numbers, coupled samples, outputs that are no one tensor."""

from itertools import pairwise
from typing import Any

import torch
from kinds import Draws, Network, generic, kind, labels, normal
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

ONE_FUNCTION = "Gradient, products and slices see the same draws, each batch its own."


def smooth(*widths: int) -> nn.Module:
    layers = [layer for n, m in pairwise(widths) for layer in (nn.Linear(n, m), nn.Tanh())]
    return generic(nn.Sequential(*layers[:-1]))


def square(z: Tensor, t: Tensor) -> Tensor:
    return (z - t).square().mean()


def points() -> list[tuple[Tensor, Tensor]]:
    return [(normal(n, 1), normal(n, 1)) for n in (6, 3)]


@kind("PINN, torch.autograd.grad in forward", note="`problem.loss()` and slices put gradients on by themselves.")
def pinn() -> Network:
    def residual(m: nn.Module, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        u = m(x)
        slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        return torch.autograd.grad(slope.sum(), x, create_graph=True)[0] + u.sin()

    return Network(smooth(1, 6, 5, 1), square, points(), residual)


@kind("PINN, torch.func.vmap(grad)")
def pinn_func() -> Network:
    def residual(m: nn.Module, x: Tensor) -> Tensor:
        def u(point: Tensor) -> Tensor:
            return m(point[None])[0, 0]

        curved = torch.func.vmap(torch.func.hessian(u))(x)[:, :, 0]
        return curved + torch.func.vmap(torch.func.grad(u))(x)

    net = smooth(1, 6, 5, 1)
    residual(net, normal(2, 1))  # torch warns at its first torch.func.hessian of something of its own
    return Network(net, square, points(), residual)


@kind("Energies and forces")
def forces() -> Network:
    def both(m: nn.Module, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        pairs = (x[:, :, None] - x[:, None]).square().sum(-1) + torch.eye(3, dtype=x.dtype)
        energy = m(pairs.rsqrt().flatten(1))  # (B, 1)
        return torch.cat([energy, -torch.autograd.grad(energy.sum(), x, create_graph=True)[0].flatten(1)], 1)

    batches = [(normal(n, 3, 3), normal(n, 10)) for n in (4, 3)]
    return Network(smooth(9, 5, 1), square, batches, both)


@kind("VAE, one draw of the latent code", note=ONE_FUNCTION)
def vae() -> Network:
    draws = Draws()

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = smooth(5, 4, 4), smooth(2, 4, 5)

        def forward(self, x: Tensor) -> Tensor:
            mean, log_variance = self.encoder(x).chunk(2, 1)
            noise = draws(x, lambda: torch.randn_like(mean))
            code = mean + (0.5 * log_variance).exp() * noise
            return torch.cat([self.decoder(code), mean, log_variance], 1)

    def bound(z: Tensor, x: Tensor) -> Tensor:
        decoded, mean, log_variance = z.split([5, 2, 2], 1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return ((decoded - x).square().sum(1) + divergence).mean()

    return Network(VAE(), bound, [(x, x) for x in (normal(6, 5), normal(4, 5))], draws=draws)


@kind("Diffusion, random times and noise", note=ONE_FUNCTION)
def diffusion() -> Network:
    draws = Draws()

    def noise_left(m: nn.Module, x: Tensor) -> Tensor:
        drawn = draws(x, lambda: torch.cat([torch.rand(len(x), 1, dtype=x.dtype), torch.randn_like(x)], 1))
        time, noise = drawn[:, :1], drawn[:, 1:]
        noisy = (1 - time).sqrt() * x + time.sqrt() * noise
        return m(torch.cat([noisy, time], 1)) - noise

    batches = [(normal(n, 3), torch.zeros(n, 3, dtype=torch.float64)) for n in (6, 4)]
    return Network(smooth(4, 6, 3), square, batches, noise_left, draws=draws)


@kind(
    "InfoNCE (CLIP) with a learnt temperature",
    refused={"empirical": "sample"},
    note="The loss couples the samples of a batch, so one sample alone has no loss.",
)
def infonce() -> Network:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.text, self.scale = smooth(4, 5, 3), smooth(3, 4, 3), nn.Parameter(normal(1)[0])

        def forward(self, inputs: dict[str, Tensor]) -> Tensor:
            image, text = F.normalize(self.image(inputs["image"])), F.normalize(self.text(inputs["text"]))
            return torch.stack([self.scale.exp() * image, text], 1)  # (B, 2, 3)

    def contrast(z: Tensor, _: Tensor) -> Tensor:
        among = z[:, 0] @ z[:, 1].T
        right = torch.arange(len(z))
        return 0.5 * (F.cross_entropy(among, right) + F.cross_entropy(among.T, right))

    batches = [({"image": normal(n, 4), "text": normal(n, 3)}, torch.arange(n)) for n in (6, 4)]
    return Network(Pair(), contrast, batches)


@kind("WGAN-GP critic, penalty at random points", note=ONE_FUNCTION)
def critic() -> Network:
    draws = Draws()

    def scores(m: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        real, fake = inputs["real"], inputs["fake"]
        share = draws(real, lambda: torch.rand(len(real), 1, dtype=real.dtype))
        between = (share * real + (1 - share) * fake).requires_grad_()
        slope = torch.autograd.grad(m(between).sum(), between, create_graph=True)[0]
        return torch.cat([m(fake), m(real), slope.norm(dim=1, keepdim=True)], 1)

    def loss(z: Tensor, _: Tensor) -> Tensor:
        return (z[:, 0] - z[:, 1] + 10 * (z[:, 2] - 1).square()).mean()

    batches = [({"real": normal(n, 3), "fake": normal(n, 3)}, torch.zeros(n)) for n in (6, 4)]
    return Network(smooth(3, 6, 5, 1), loss, batches, scores, draws=draws)


def trainable(m: nn.Module) -> dict[str, Tensor]:
    return {name: p if p.requires_grad else p.detach().requires_grad_() for name, p in m.named_parameters()}


@kind("MAML, one inner step")
def maml() -> Network:
    inner = normal(7, 4), labels(7)

    def adapted(m: nn.Module, x: Tensor) -> Tensor:
        named = trainable(m)
        with torch.enable_grad():
            loss = F.cross_entropy(functional_call(m, named, (inner[0],)), inner[1])
            slopes = torch.autograd.grad(loss, list(named.values()), create_graph=True)
        moved = {name: p - 0.5 * slope for (name, p), slope in zip(named.items(), slopes, strict=True)}
        return functional_call(m, moved, (x,))

    return Network(smooth(4, 5, 3), F.cross_entropy, [(normal(n, 4), labels(n)) for n in (5, 3)], adapted)


@kind("Penalty on the gradient in the weights")
def penalised() -> Network:
    def outputs(m: nn.Module, x: Tensor) -> Tensor:
        named = trainable(m)
        with torch.enable_grad():
            z = functional_call(m, named, (x,))
            slopes = torch.autograd.grad(z.square().mean(), list(named.values()), create_graph=True)
        size = sum(slope.square().sum() for slope in slopes)
        return z * (1 + 0.1 * size)

    return Network(smooth(4, 5, 3), F.cross_entropy, [(normal(n, 4), labels(n)) for n in (5, 3)], outputs)


@kind("CTC", note="torch's CTC has no second derivative: differences, in the outputs for G.")
def ctc() -> Network:
    def loss(z: Tensor, t: Tensor) -> Tensor:
        frames = torch.full((len(t),), z.shape[1])
        return F.ctc_loss(z.log_softmax(2).transpose(0, 1), t, frames, (t > 0).sum(1))

    targets = torch.tensor([[1, 2, 0], [2, 2, 1], [1, 0, 0], [3, 1, 0], [2, 0, 0]])
    batches = [(normal(5, 7, 2), targets), (normal(3, 7, 2), targets[:3])]
    return Network(smooth(2, 5, 4), loss, batches)


@kind(
    "Detection, outputs in a mapping",
    refused={"ggn": "one tensor", "empirical": "one tensor"},
    note="G needs outputs in one tensor: join them by `forward=`.",
)
def detection() -> Network:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.boxes, self.logits = smooth(5, 6, 5), nn.Linear(5, 4), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            h = self.body(x).tanh()
            return {"boxes": self.boxes(h), "logits": self.logits(h)}

    def loss(z: dict[str, Tensor], t: list[dict[str, Tensor]]) -> Tensor:
        boxes, classes = torch.stack([one["boxes"] for one in t]), torch.stack([one["label"] for one in t])
        return F.smooth_l1_loss(z["boxes"], boxes) + F.cross_entropy(z["logits"], classes)

    def targets(n: int) -> list[dict[str, Tensor]]:
        return [{"boxes": normal(4), "label": labels(1)[0]} for _ in range(n)]

    return Network(generic(Detector()), loss, [(normal(n, 5), targets(n)) for n in (6, 4)])


@kind(
    "A model that returns its loss",
    refused={"ggn": "0-d|scalar|reduced", "empirical": "0-d|scalar|reduced"},
    note="G of a loss that is already reduced would be 0: return the outputs and pass the criterion.",
)
def own_loss() -> Network:
    def loss(m: nn.Module, inputs: tuple[Tensor, Any]) -> Tensor:
        return F.cross_entropy(m(inputs[0]), inputs[1])

    data = [(normal(n, 4), labels(n)) for n in (6, 4)]
    return Network(smooth(4, 5, 3), lambda z, _: z, [((x, t), t) for x, t in data], loss)
