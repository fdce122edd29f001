"""The networks of `gpu.py` at their usual sizes, or as toys: random weights, random data, batches on the device."""

from collections.abc import Callable

import torch
from gpt2 import network as gpt2
from setting import Config, Setting
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from landscape.models import vit


class Block(nn.Module):
    """Two convolutions and a shortcut, which is a convolution of one pixel where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.branch(x))


def resnet18(width: int = 64, classes: int = 10) -> nn.Module:
    """ResNet-18 as it is used for CIFAR: 3 × 3 stem, no pooling, 11.2 million parameters."""
    sizes = [width, width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
    blocks = [Block(a, b, b // a) for a, b in zip([width, *sizes], sizes, strict=False)]
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes))


class NextToken(nn.Module):
    """A language model's scores of the next tokens, a row a position, (batch · (length − 1), words)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens, use_cache=False).logits[:, :-1].flatten(0, 1)


def convolutions(config: Config, small: bool) -> Setting:
    """Three convolutions on 1,200 images of the digits' shape, 15,338 parameters: on a GPU it waits for launches."""
    a, b = (2, 3) if small else (16, 32)
    layers = [nn.Conv2d(1, a, 3, 1, 1), nn.ReLU(), nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(), nn.Conv2d(b, b, 3, 2, 1)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(4 * b, 10))
    count, batch = (8, 4) if small else (1200, 300)
    return _images(model, config, 8, 10, count, batch, channels=1)


def residual(config: Config, small: bool) -> Setting:
    """ResNet-18 on 10,000 images of CIFAR's shape."""
    side, batch = (4, 2) if small else (32, 1000)
    return _images(resnet18(2 if small else 64), config, side, 10, 4 if small else 10_000, batch)


def transformer(config: Config, small: bool) -> Setting:
    """ViT-B/16 on 256 images."""
    sizes = {"dim": 8, "depth": 1, "heads": 2, "patch": 4, "image_size": 8, "classes": 10}
    if not small:
        sizes = {"dim": 768, "depth": 12, "heads": 12, "patch": 16, "image_size": 224, "classes": 1000}
    count, batch = (8, 4) if small else (256, 32)  # 32 take some 30 GB in plain double backward
    return _images(vit(in_channels=3, **sizes), config, sizes["image_size"], sizes["classes"], count, batch)


def language(config: Config, small: bool) -> Setting:
    """GPT-2 on 8 × 512 tokens."""
    toy = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 16, "vocab_size": 20}
    model = NextToken(gpt2(**toy) if small else gpt2())
    count, length, words, batch = (4, 8, 20, 2) if small else (8, 512, 50257, 2)
    tokens = torch.randint(words, (count, length), generator=torch.Generator().manual_seed(0))
    return _setting(model, [(part, part[:, 1:].flatten()) for part in tokens.split(batch)], config)


NETWORKS: dict[str, Callable[[Config, bool], Setting]] = {
    "small CNN": convolutions,
    "ResNet-18": residual,
    "ViT-B/16": transformer,
    "GPT-2": language,
}


def _images(
    model: nn.Module, config: Config, side: int, classes: int, count: int, batch: int, channels: int = 3
) -> Setting:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(count, channels, side, side, generator=source)
    t = torch.randint(classes, (count,), generator=source)
    return _setting(model, list(zip(x.split(batch), t.split(batch), strict=True)), config)


def _setting(model: nn.Module, batches: list[tuple[Tensor, Tensor]], config: Config) -> Setting:
    placed = [(x.to(config.device), t.to(config.device)) for x, t in batches]
    return Setting(model.to(config.device).eval(), cross_entropy, placed, config)
