"""Parameter counts against the published ones; networks on the meta device, which has shapes and no numbers."""

import pytest
import torch

from landscape.models import build

IMAGENET = {"image_size": 224, "patch": 16, "in_channels": 3, "classes": 1000}


def size(name, **settings):
    with torch.device("meta"):
        return sum(p.numel() for p in build(name, settings, seed=0).parameters())


WRN = {  # millions, Zagoruyko & Komodakis, tables 3 and 4
    (40, 1): 0.6,
    (40, 2): 2.2,
    (40, 4): 8.9,
    (40, 8): 35.7,
    (28, 10): 36.5,
    (28, 12): 52.5,
    (22, 8): 17.2,
    (22, 10): 26.8,
    (16, 8): 11.0,
    (16, 10): 17.1,
}


@pytest.mark.parametrize(("depth", "widen"), WRN)
def test_wrn(depth, widen):
    blocks, before, total = (depth - 4) // 6, 16, 3 * 16 * 9
    for width in (16 * widen, 32 * widen, 64 * widen):
        for _ in range(blocks):
            total += 2 * before + 9 * before * width + 2 * width + 9 * width * width  # norm, conv, norm, conv
            total += before * width if before != width else 0
            before = width
    total += 2 * before + (before + 1) * 10
    assert size("wrn", depth=depth, widen=widen, in_channels=3) == total
    assert total / 1e6 == pytest.approx(WRN[depth, widen], abs=0.0501)


def test_wrn_28_10_to_the_last_parameter():
    assert size("wrn", depth=28, widen=10, in_channels=3) == 36_479_194
    assert size("wrn", depth=28, widen=10, in_channels=3, classes=100) == 36_479_194 + 90 * 641


VGG = {11: 132_863_336, 13: 133_047_848, 16: 138_357_544, 19: 143_667_240}  # torchvision's, for ImageNet


@pytest.mark.parametrize("depth", VGG)
def test_vgg_has_the_convolutions_of_the_original(depth):
    stages = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    channels = sum(n * c for n, c in zip(stages, (64, 128, 256, 512, 512), strict=True))
    perceptron = (49 * 512 + 1) * 4096 + 4097 * 4096 + 4097 * 1000
    convolutions = VGG[depth] - perceptron - channels  # theirs have biases, ours a norm's two a channel
    assert size("vgg", depth=depth) == convolutions + 2 * channels + 513 * 10


def test_vgg_19_for_cifar():
    assert size("vgg", depth=19) / 1e6 == pytest.approx(20.04, abs=0.005)  # Liu et al. 2017, table 1


@pytest.mark.parametrize(
    ("dim", "depth", "heads", "expected"),
    [(192, 12, 3, 5_717_416), (384, 12, 6, 22_050_664), (768, 12, 12, 86_567_656)],  # Ti/16, S/16, B/16 (DeiT's code)
)
def test_vit(dim, depth, heads, expected):
    block = 2 * 2 * dim + (dim + 1) * 3 * dim + (dim + 1) * dim + (dim + 1) * 4 * dim + (4 * dim + 1) * dim
    total = (3 * 256 + 1) * dim + dim + 197 * dim + depth * block + 2 * dim + (dim + 1) * 1000
    assert size("vit", dim=dim, depth=depth, heads=heads, **IMAGENET) == total == expected


@pytest.mark.parametrize(
    ("dim", "depth", "millions"),
    [(512, 8, 18.53), (768, 12, 59.88), (1024, 24, 208.20)],  # S/16, B/16, L/16
)
def test_mixer(dim, depth, millions):
    tokens = (196 + 1) * dim // 2 + (dim // 2 + 1) * 196
    channels = (dim + 1) * 4 * dim + (4 * dim + 1) * dim
    total = (3 * 256 + 1) * dim + depth * (2 * 2 * dim + tokens + channels) + 2 * dim + (dim + 1) * 1000
    assert size("mixer", dim=dim, depth=depth, **IMAGENET) == total
    assert total / 1e6 == pytest.approx(millions, abs=0.005)
