import pytest
import torch
from torch import nn

from landscape.models import MODELS, build, mlp, resnet


def size(model):
    return sum(p.numel() for p in model.parameters())


def test_resnet_20_has_the_size_of_the_paper():
    # stem 432 + 32; stages of 2 n convolutions: 6·2304, 4608 + 5·9216, 18432 + 5·36864; a norm's 2 a channel; head 650
    convolutions = 432 + 6 * 2304 + 4608 + 5 * 9216 + 18432 + 5 * 36864
    norms = 2 * (16 + 6 * (16 + 32 + 64))
    assert convolutions + norms + 650 == 269722  # He et al., table 6: 0.27 million
    assert size(resnet(depth=20, width=16, norm="batch", in_channels=3)) == 269722


@pytest.mark.parametrize(
    ("norm", "extra"), [("none", 16 + 6 * (16 + 32 + 64)), ("group", 2 * (16 + 6 * (16 + 32 + 64)))]
)
def test_the_other_norms_add_a_bias_or_a_scale_and_shift_a_channel(norm, extra):
    batch = 2 * (16 + 6 * (16 + 32 + 64))
    assert size(resnet(depth=20, norm=norm, in_channels=3)) == 269722 - batch + extra


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
@pytest.mark.parametrize("width", [3, 8])
def test_resnet_maps_images_to_classes(norm, width):
    model = resnet(width=width, norm=norm, in_channels=2, classes=7)
    assert model(torch.randn(3, 2, 8, 8)).shape == (3, 7)
    assert model(torch.randn(3, 2, 9, 9)).shape == (3, 7)  # an odd side


def test_shortcuts_subsample_and_pad_with_zeros():
    model = resnet(width=4)
    block = model.blocks[1]
    for p in block.parameters():
        nn.init.zeros_(p)
    x = torch.rand(2, 4, 8, 8)
    expected = torch.cat([x[:, :, ::2, ::2], torch.zeros(2, 4, 4, 4)], dim=1)
    assert torch.equal(block(x), expected)


@pytest.mark.parametrize("depth", [8, 56])
def test_without_normalisation_activations_neither_explode_nor_vanish_with_depth(depth):
    model = build("resnet", {"depth": depth, "width": 16}, seed=0)
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stem = model.stem(x)
        growth = model.blocks(stem).square().mean() / stem.square().mean()
    assert 0.1 < growth < 10  # unscaled, 27 blocks multiply it by about 2^27
    blocks = len(model.blocks)
    torch.manual_seed(0)
    std = model.blocks[0].branch[3].weight.std() / (2 / (9 * 16)) ** 0.5
    assert std.item() == pytest.approx(blocks**-0.5, rel=0.1)


def test_mlp_flattens_and_counts():
    assert mlp(64, (32, 16), 10)(torch.randn(5, 1, 8, 8)).shape == (5, 10)
    assert size(mlp(64, (32, 16), 10)) == 65 * 32 + 33 * 16 + 17 * 10
    assert size(mlp(64, (), 10)) == 650
    assert [type(m).__name__ for m in mlp(4, (3,), 2)] == ["Flatten", "Linear", "ReLU", "Linear"]


def test_an_mlp_with_batch_norm_normalises_every_hidden_layer():
    network = mlp(64, (32, 16), 10, norm="batch")
    kinds = [type(m).__name__ for m in network]
    assert kinds == ["Flatten", *["Linear", "BatchNorm1d", "ReLU"] * 2, "Linear"]
    assert size(network) == 64 * 32 + 2 * 32 + 32 * 16 + 2 * 16 + 17 * 10
    network(x := torch.randn(5, 1, 8, 8))
    assert torch.allclose(network[:3](x).mean(0), torch.zeros(32), atol=1e-6)


SMALL = {
    "vgg": {"width": 4},
    **{f"resnet{depth}": {"width": 1, "classes": 2} for depth in (18, 34, 50, 101, 152)},
    "resnet50": {"width": 2, "group_width": 32},
    "resnet101": {"width": 2, "group_width": 32},
    "resnet152": {"width": 2, "group_width": 32},
    "resnext50": {"width": 16},
    "densenet121": {"growth": 2},
    "pyramidnet": {"depth": 11, "alpha": 3},
    "shake_shake": {"depth": 8, "width": 2},
    "cnn": {"width": 2, "hidden": 4},
    "deit_s": {"dim": 12, "depth": 1},
}


@pytest.mark.parametrize("name", MODELS)
def test_build_follows_the_seed_and_leaves_the_global_random_state(name):
    before = torch.get_rng_state()
    settings = SMALL.get(name, {})
    a, again, b = (list(build(name, settings, seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(a, again, strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet(depth=9), r"depth must be 6 n \+ 2 \(8, 14, 20, ...\), got 9"),
        (lambda: resnet(depth=2), "depth must be an integer at least 8, got 2"),
        (lambda: resnet(norm="layer"), "norm must be one of 'none' | 'batch' | 'group', got 'layer'"),
        (lambda: resnet(width=0), "width must be"),
        (lambda: mlp(hidden=(3, 0)), "hidden must be an integer at least 1, got 0"),
        (lambda: mlp(norm="group"), "norm must be one of 'none' | 'batch', got 'group'"),
        (
            lambda: build("lenet", {}, 0),
            "model must be one of 'mlp' | 'resnet' | 'wrn' | 'vgg' | 'vit' | 'mixer' |",
        ),
        (lambda: build("mlp", {"deep": 3}, 0), "model 'mlp' cannot be built with {'deep': 3}"),
    ],
)
def test_bad_arguments_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")) as caught:
        make()
    assert "\n" not in str(caught.value)
