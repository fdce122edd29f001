"""Parameter counts against the published ones; networks on the meta device, which has shapes and no numbers."""

import pytest
import torch

from landscape.models import build

IMAGENET = {"image_size": 224, "patch": 16, "in_channels": 3, "classes": 1000}


def size(name, **settings):
    with torch.device("meta"):
        return sum(p.numel() for p in build(name, settings, seed=0).parameters())


WRN = {  # millions, Zagoruyko & Komodakis 2016, tables 3 to 5
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


RESNET = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7, 1202: 19.4}  # millions, He et al. 2016, table 6


@pytest.mark.parametrize("depth", RESNET)
def test_resnet_for_cifar(depth):
    blocks, before, total = (depth - 2) // 6, 16, 27 * 16 + 2 * 16
    for width in (16, 32, 64):
        for _ in range(blocks):
            total += 9 * before * width + 9 * width * width + 4 * width
            before = width
    assert size("resnet", depth=depth, width=16, norm="batch", in_channels=3) == total + 65 * 10
    assert total / 1e6 == pytest.approx(RESNET[depth], abs=0.0051 if depth < 110 else 0.0501)


# pytorch/vision, torchvision/models/vgg.py ("num_params"), for ImageNet
VGG = {11: 132_863_336, 13: 133_047_848, 16: 138_357_544, 19: 143_667_240}


@pytest.mark.parametrize("depth", VGG)
def test_vgg_has_the_convolutions_of_the_original(depth):
    stages = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    channels = sum(n * c for n, c in zip(stages, (64, 128, 256, 512, 512), strict=True))
    perceptron = (49 * 512 + 1) * 4096 + 4097 * 4096 + 4097 * 1000
    convolutions = VGG[depth] - perceptron - channels  # theirs have biases, ours a norm's two a channel
    assert size("vgg", depth=depth) == convolutions + 2 * channels + 513 * 10


def test_vgg_19_for_cifar():
    assert size("vgg", depth=19) / 1e6 == pytest.approx(20.04, abs=0.005)  # Eric-mingjie/network-slimming, README


@pytest.mark.parametrize(
    ("dim", "depth", "heads", "expected"),
    # Ti/16, S/16, B/16: google-research/vision_transformer, vit_jax/models_test.py
    [(192, 12, 3, 5_717_416), (384, 12, 6, 22_050_664), (768, 12, 12, 86_567_656)],
)
def test_vit(dim, depth, heads, expected):
    block = 2 * 2 * dim + (dim + 1) * 3 * dim + (dim + 1) * dim + (dim + 1) * 4 * dim + (4 * dim + 1) * dim
    total = (3 * 256 + 1) * dim + dim + 197 * dim + depth * block + 2 * dim + (dim + 1) * 1000
    assert size("vit", dim=dim, depth=depth, heads=heads, **IMAGENET) == total == expected


@pytest.mark.parametrize(
    ("dim", "depth", "published"),
    # S/16: 18 million, Chen et al. 2022, table 5; B, L: google-research/vision_transformer, vit_jax/models_test.py
    [(512, 8, None), (768, 12, 59_880_472), (1024, 24, 208_196_168)],
)
def test_mixer(dim, depth, published):
    tokens = (196 + 1) * dim // 2 + (dim // 2 + 1) * 196
    channels = (dim + 1) * 4 * dim + (4 * dim + 1) * dim
    total = (3 * 256 + 1) * dim + depth * (2 * 2 * dim + tokens + channels) + 2 * dim + (dim + 1) * 1000
    assert size("mixer", dim=dim, depth=depth, **IMAGENET) == total
    assert total == published or (published is None and total // 10**6 == 18)


# pytorch/vision, torchvision/models/resnet.py and densenet.py ("num_params"); DeiT-S is ViT-S/16
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50": 25_028_904,
    "densenet121": 7_978_856,
    "deit_s": 22_050_664,
}
CIFAR_FORM = {18: 11_173_962, 34: 21_282_122, 50: 23_520_842, 101: 42_512_970, 152: 58_156_618}


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_for_imagenet(name):
    assert size(name) == PUBLISHED[name]


@pytest.mark.parametrize("depth", CIFAR_FORM)
def test_the_cifar_form_has_another_first_convolution_and_head(depth):
    features = 512 if depth < 50 else 2048
    other_stem, other_head = (49 - 9) * 3 * 64, 990 * (features + 1)
    assert size(f"resnet{depth}", form="cifar", classes=10) == CIFAR_FORM[depth]
    assert PUBLISHED[f"resnet{depth}"] - other_stem - other_head == CIFAR_FORM[depth]


@pytest.mark.parametrize(
    ("depth", "alpha", "millions"),
    # Han et al. 2017; jhkim89/PyramidNet, README ("add"); its depth 164, alpha 84 and 270, 3.8 and 27.0 there, is left
    # out: by its own layers it has 3.7 and 27.2
    [(164, 48, 1.7), (200, 240, 26.6), (236, 220, 26.8), (272, 200, 26.0)],
)
def test_pyramidnet(depth, alpha, millions):
    assert size("pyramidnet", depth=depth, alpha=alpha) / 1e6 == pytest.approx(millions, abs=0.0501)
    assert size("pyramidnet", depth=depth, alpha=alpha, shake_drop=0.0) == size("pyramidnet", depth=depth, alpha=alpha)


def test_pyramidnet_of_the_sam_paper_to_the_last_parameter():
    before, total = 16, 27 * 16 + 2 * 16
    for index in range(90):
        width = 16 + 200 * (index + 1) // 90
        total += 2 * before + before * width + 2 * width + 9 * width**2 + 2 * width + 4 * width**2 + 8 * width
        before = 4 * width
    assert before == 864
    assert size("pyramidnet") == total + 2 * before + (before + 1) * 10


# the layers are those of xgastaldi/shake-shake, models/shakeshake.lua; their counts of parameters are not confirmed
@pytest.mark.parametrize(("width", "millions"), [(32, 2.9), (64, 11.7), (96, 26.2), (112, 35.6)])
def test_shake_shake(width, millions):
    assert size("shake_shake", width=width) / 1e6 == pytest.approx(millions, abs=0.0501)


def test_the_cnn_of_six_layers():
    convolutions = 28 * 32 + 289 * 32 + 289 * 64 + 577 * 64
    assert size("cnn") == convolutions + (64 * 64 + 1) * 128 + 129 * 10


def test_char_lm():
    block = 4 * 32 + 33 * 96 + 33 * 32 + 33 * 128 + 129 * 32
    assert size("char_lm") == 32 * 32 + 64 * 32 + 2 * block + 64 + 33 * 32
