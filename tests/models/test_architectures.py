"""WRN, VGG, ViT and Mixer against their formulas, written out with torch's functions in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape.curvature import hessian
from landscape.models import build, mixer, vgg, vit, wrn
from landscape.models.initialise import he_normal, lecun_normal
from landscape.models.patches import Patches
from landscape.models.vit import Attention
from landscape.models.wrn import Block
from landscape.problem import Problem


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def randomise(model):
    """float64 and every parameter random: no zero bias, no scale of 1."""
    generator = torch.Generator().manual_seed(1)
    for p in model.double().parameters():
        p.data = torch.randn(p.shape, dtype=torch.float64, generator=generator) * 0.5
    return model


def batch_normalised(x, norm):
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize(("after", "stride"), [(4, 1), (8, 1), (8, 2)])
def test_a_block_of_wrn_normalises_before_it_convolves(after, stride):
    block, x = randomise(Block(4, after, stride, 0.0)), random(3, 4, 6, 6)
    first, norm, _, _, second = block.branch
    active = batch_normalised(x, block.norm).clamp(min=0)
    branch = F.conv2d(active, first.weight, stride=stride, padding=1)
    branch = F.conv2d(batch_normalised(branch, norm).clamp(min=0), second.weight, padding=1)
    shortcut = x if after == 4 else F.conv2d(active, block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), shortcut + branch)


def test_wrn_halves_the_image_after_the_first_and_the_second_stage():
    model, sides = wrn(depth=16, widen=2, in_channels=3, classes=7), []
    for block in model.blocks:
        block.register_forward_hook(lambda *hooked: sides.append(tuple(hooked[2].shape[1:])))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert sides == [(32, 32, 32)] * 2 + [(64, 16, 16)] * 2 + [(128, 8, 8)] * 2


def test_dropout_of_wrn_is_between_the_convolutions():
    model = wrn(dropout=0.5)
    assert [type(layer).__name__ for layer in model.blocks[0].branch][2:] == ["ReLU", "Dropout", "Conv2d"]
    x = torch.randn(2, 1, 8, 8)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize(("depth", "convolutions"), [(11, 8), (13, 10), (16, 13), (19, 16)])
def test_vgg_has_a_layer_less_a_missing_linear_one(depth, convolutions):
    model = vgg(depth, width=2, classes=7)
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == convolutions == depth - 3
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 7)


def test_patches_are_projected_one_by_one_row_after_row():
    patches, x = randomise(Patches(6, 2, 3, 5)), random(2, 3, 6, 6)
    weight, bias = patches.projection.weight.flatten(1), patches.projection.bias
    squares = [x[:, :, i : i + 2, j : j + 2].flatten(1) for i in (0, 2, 4) for j in (0, 2, 4)]
    torch.testing.assert_close(patches(x), torch.stack([square @ weight.T + bias for square in squares], 1))
    assert patches.count == 9


def test_attention_is_torchs_multi_head_attention():
    ours, x = randomise(Attention(12, 3)), random(2, 5, 12)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    theirs.in_proj_weight, theirs.in_proj_bias = ours.query_key_value.weight, ours.query_key_value.bias
    theirs.out_proj.weight, theirs.out_proj.bias = ours.output.weight, ours.output.bias
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])


def layer_normalised(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight + norm.bias


def perceptron(x, layers):
    return F.gelu(x @ layers[0].weight.T + layers[0].bias) @ layers[2].weight.T + layers[2].bias


def test_vit_is_its_formula():
    model, x = randomise(vit(dim=8, depth=2, heads=2, patch=4, in_channels=2, classes=3)), random(2, 2, 8, 8)
    tokens = torch.cat([model.class_token.repeat(2, 1, 1), model.patches(x)], 1) + model.positions
    for block in model.blocks:
        tokens = tokens + block.attention[1](layer_normalised(tokens, block.attention[0]))
        tokens = tokens + perceptron(layer_normalised(tokens, block.perceptron[0]), block.perceptron[1])
    torch.testing.assert_close(model(x), model.head(layer_normalised(tokens[:, 0], model.norm)))


def test_mixer_is_its_formula():
    model, x = randomise(mixer(dim=6, depth=2, patch=4, in_channels=2, classes=3)), random(2, 2, 8, 8)
    tokens = model.patches(x)
    for block in model.blocks:
        mixed = layer_normalised(tokens, block.token_norm)
        columns = [perceptron(mixed[:, :, channel], block.tokens) for channel in range(6)]
        tokens = tokens + torch.stack(columns, 2)
        tokens = tokens + perceptron(layer_normalised(tokens, block.channels[0]), block.channels[1])
    torch.testing.assert_close(model(x), model.head(layer_normalised(tokens, model.norm).mean(1)))


@pytest.mark.parametrize(
    ("initialise", "variance"), [(he_normal, 2 / (64 * 9)), (lecun_normal, 1 / (32 * 9))], ids=["he", "lecun"]
)
def test_initial_weights_have_their_variance(initialise, variance):
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 64, 3)
    initialise(layer)
    count = layer.weight.numel()
    assert abs(layer.weight.mean()) < 4 * (variance / count) ** 0.5
    assert layer.weight.var().item() == pytest.approx(variance, rel=4 * (2 / count) ** 0.5)
    assert not layer.bias.any()


SMALL = {
    "wrn": {"in_channels": 3},
    "vgg": {"width": 1},
    "vit": {"dim": 8, "depth": 1, "heads": 2, "image_size": 32, "patch": 8, "in_channels": 3},
    "mixer": {"dim": 8, "depth": 1, "image_size": 32, "patch": 8, "in_channels": 3},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_hessian_product_is_the_gradients_derivative(name):
    model = build(name, SMALL[name], seed=0).double().eval()
    problem = Problem(model, F.cross_entropy, (random(4, 3, 32, 32), torch.arange(4)))
    w, v = problem.vector(), random(problem.size, seed=2)
    h = 1e-6 / v.norm()
    slope = (problem.gradient(w + h * v) - problem.gradient(w - h * v)) / (2 * h)
    torch.testing.assert_close(hessian(problem) @ v, slope, rtol=1e-4, atol=1e-5 * slope.abs().max().item())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wrn(depth=28, widen=0), "widen must be an integer at least 1, got 0"),
        (lambda: wrn(depth=20), r"depth must be 6 n \+ 4 \(10, 16, 22, 28, ...\), got 20"),
        (lambda: wrn(dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
        (lambda: vgg(depth=12), r"depth must be one of 11 \| 13 \| 16 \| 19, got 12"),
        (lambda: vgg(width=0), "width must be an integer at least 1, got 0"),
        (lambda: vit(heads=3), "heads must divide dim 32, got 3"),
        (lambda: vit(patch=3), "patch must divide image_size 8, got 3"),
        (lambda: vit(depth=0), "depth must be an integer at least 1, got 0"),
        (lambda: mixer(dim=7), "dim must be even, got 7"),
        (lambda: mixer(patch=5), "patch must divide image_size 8, got 5"),
    ],
)
def test_bad_arguments_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
