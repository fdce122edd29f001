"""What is measured on: a small network trained on the digits, the same weights and batches for every contender."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import landscape as ls
from landscape.data import digits
from landscape.models import mlp, resnet


@dataclass(frozen=True)
class Config:
    """A run of the benchmark.

    Attributes:
        out: folder of the JSON file and the figure.
        runs: folder of the trained network.
        device: "cpu" or "cuda".
        threads: of torch.
        width: of the residual network; 7 gives 14,570 parameters.
        epochs: of its training.
        images: of the training set, in batches of `batch_size`.
        k: eigenpairs.
        tol: their residuals', relative.
        repeats: of every timing; contenders take turns, medians are reported.
        trace_matvecs: products of our trace and of curvlinops'.
        chunk: vectors that our operator takes at once where it is given a block; None for its own rule.
        trace_seeds: runs over which its rms error is taken.
        trace_budgets: products with which our trace is tried for 1 %, rising.
        density_steps: Lanczos steps of a density, PyHessian's default.
        sizes: parameters of the wide perceptrons on which the cost of Lanczos itself is measured.
        resnet20_images: images of CIFAR's shape on which a product of ResNet-20 is timed; 0 leaves it out.
        reference_matvecs: products of the trace that errors are measured against.
    """

    out: Path = Path("figures/benchmarks")
    runs: Path = Path("runs/benchmarks")
    device: str = "cpu"
    threads: int = 2
    width: int = 7
    epochs: int = 15
    images: int = 1200
    batch_size: int = 300
    k: int = 10
    tol: float = 1e-3
    repeats: int = 3
    trace_matvecs: int = 60
    chunk: int | None = 10
    trace_seeds: int = 30
    trace_budgets: tuple[int, ...] = (48, 96)
    density_steps: int = 100
    sizes: tuple[int, ...] = (10**5, 10**6, 10**7)
    resnet20_images: int = 256
    reference_matvecs: int = 600


@dataclass(frozen=True, eq=False)
class Setting:
    """A network, its loss and its data, as every contender gets them."""

    model: nn.Module
    criterion: Callable[[Any, Any], Tensor]
    batches: list[tuple[Tensor, Tensor]]
    config: Config

    @property
    def problem(self) -> ls.Problem:
        return ls.Problem(self.model, self.criterion, self.batches)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def size(self) -> int:
        return sum(p.numel() for p in self.parameters)

    def double(self) -> "Setting":
        """The same in float64."""
        batches = [(x.double(), t) for x, t in self.batches]
        return Setting(copy.deepcopy(self.model).double(), self.criterion, batches, self.config)

    def gradient(self) -> Tensor:
        """The mean gradient as any user would take it, (P,): the unit of cost."""
        total = torch.zeros(self.size, device=self.batches[0][0].device)
        for x, t in self.batches:
            pieces = torch.autograd.grad(self.criterion(self.model(x), t), self.parameters)
            total += len(t) * torch.cat([piece.reshape(-1) for piece in pieces])
        return total / sum(len(t) for _, t in self.batches)

    def double_backward(self, v: Tensor) -> Tensor:
        """H v by plain double backward, a fresh graph for each batch, (P,)."""
        total = torch.zeros_like(v)
        for x, t in self.batches:
            loss = self.criterion(self.model(x), t)
            pieces = torch.autograd.grad(loss, self.parameters, create_graph=True)
            slope = torch.cat([piece.reshape(-1) for piece in pieces])
            images = torch.autograd.grad(slope, self.parameters, v)
            total += len(t) * torch.cat([image.reshape(-1) for image in images])
        return total / sum(len(t) for _, t in self.batches)


def trained(config: Config, copies: int = 1) -> Setting:
    """The digits network, trained by the bundled trainer once; `copies` of the data one after another."""
    folder = config.runs / f"width-{config.width}-epochs-{config.epochs}-threads-{config.threads}"
    settings = {"width": config.width}
    run = ls.train(ls.TrainConfig(folder=folder, model_settings=settings, epochs=config.epochs, lr=0.1, progress=False))
    return _placed(ls.load_checkpoint(run)[0], _digits(config) * copies, config)


def trained_perceptron(config: Config) -> Setting:
    """A perceptron with 32 hidden units, trained on the digits once; small enough for a dense Hessian."""
    folder = config.runs / f"perceptron-epochs-{config.epochs}-threads-{config.threads}"
    settings = {"hidden": [32]}
    run = ls.train(
        ls.TrainConfig(
            folder=folder, model="mlp", model_settings=settings, epochs=config.epochs, lr=0.1, progress=False
        )
    )
    return _placed(ls.load_checkpoint(run)[0], _digits(config), config)


def plain_cnn(config: Config, channels: tuple[int, int, int] = (16, 32, 32)) -> Setting:
    """Three convolutions and a linear layer, 15,338 parameters, trained here on the digits in plain torch."""
    a, b, c = channels
    torch.manual_seed(0)
    conv = partial(nn.Conv2d, kernel_size=3, padding=1)
    layers = [conv(1, a), nn.ReLU(), conv(a, b, stride=2), nn.ReLU(), conv(b, c, stride=2), nn.ReLU()]
    setting = _placed(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * c, 10)), _digits(config), config)
    optimizer = torch.optim.SGD(setting.model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(config.epochs):
        for batch in setting.batches:
            for x, t in zip(*(part.split(60) for part in batch), strict=True):
                optimizer.zero_grad()
                setting.criterion(setting.model(x), t).backward()
                optimizer.step()
    optimizer.zero_grad()
    return setting


def resnet20(config: Config) -> Setting:
    """ResNet-20 with batch normalisation, untrained, on random images of CIFAR's shape in two batches."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(config.resnet20_images, 3, 32, 32), torch.randint(10, (config.resnet20_images,))
    half = max(1, config.resnet20_images // 2)
    batches = list(zip(inputs.split(half), targets.split(half), strict=True))
    return _placed(resnet(depth=20, norm="batch", in_channels=3), batches, config)


def perceptron(config: Config, size: int) -> Setting:
    """An untrained perceptron with about `size` parameters, on the digits."""
    torch.manual_seed(0)
    width = int((-75 + (75**2 + 4 * size) ** 0.5) / 2)  # 64 h + h + h² + h + 10 h + 10 = size
    data = digits()
    inputs, targets = data.train_inputs[: config.images], data.train_targets[: config.images]
    return _placed(mlp(hidden=(width, width)), [(inputs, targets)], config)


def _digits(config: Config) -> list[tuple[Tensor, Tensor]]:
    data = digits()
    inputs, targets = data.train_inputs[: config.images], data.train_targets[: config.images]
    return list(zip(inputs.split(config.batch_size), targets.split(config.batch_size), strict=True))


def _placed(model: nn.Module, batches: list[tuple[Tensor, Tensor]], config: Config) -> Setting:
    device = torch.device(config.device)
    placed = [(x.to(device), t.to(device)) for x, t in batches]
    return Setting(model.to(device).eval(), nn.functional.cross_entropy, placed, config)
