"""The deep residual families, DenseNet, CNN and character model: shapes, formulas, the noise of training."""

import pytest
import torch
import torch.nn.functional as F

from landscape.curvature import hessian
from landscape.models import build
from landscape.models.deep_resnet import Block, _bottleneck
from landscape.models.pyramidnet import Block as PyramidBlock
from landscape.models.shake_shake import Shortcut
from landscape.models.shaken import ShakeDrop, ShakeShake
from landscape.problem import Problem
from landscape.side_effects import random_state_kept


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


IMAGES = {  # settings, side of the images, side of what the head sees
    "resnet18": ({"width": 2, "classes": 5}, 64, 2),
    "resnet50": ({"form": "cifar", "width": 2, "group_width": 32, "classes": 5}, 16, 2),
    "resnext50": ({"width": 16, "classes": 5}, 64, 2),
    "densenet121": ({"form": "cifar", "growth": 2, "classes": 5}, 16, 2),
    "pyramidnet": ({"depth": 11, "alpha": 3, "classes": 5}, 8, 2),
    "shake_shake": ({"depth": 8, "width": 2, "classes": 5}, 8, 2),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_become_scores(name):
    settings, side, left = IMAGES[name]
    model, seen = build(name, settings, seed=0), []
    features = model.features if name == "densenet121" else model.blocks
    features.register_forward_hook(lambda *hooked: seen.append(hooked[2].shape[2:]))
    assert model(torch.randn(3, 3, side, side)).shape == (3, 5)
    assert seen == [(left, left)]
    assert model(torch.randn(2, 3, side + 1, side + 1)).shape == (2, 5)  # an odd side


def test_the_forms_differ_in_the_first_layers_alone():
    imagenet, cifar = (build("resnet18", {"width": 2, "form": form}, 0) for form in ("imagenet", "cifar"))
    x = torch.randn(2, 3, 32, 32)
    assert imagenet.stem(x).shape == (2, 2, 8, 8)
    assert cifar.stem(x).shape == (2, 2, 32, 32)
    names = [[name for name, _ in model.named_parameters()] for model in (imagenet, cifar)]
    assert names[0] == names[1]


def normalised(x, norm):
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize(("cardinality", "group_width"), [(1, 64), (4, 32)])
def test_a_bottleneck_has_the_stride_in_the_middle(cardinality, group_width):
    branch = _bottleneck(3, 4, 2, (cardinality, group_width))
    block, x = Block(branch, 3, 16, 2).double(), random(2, 3, 6, 6)
    first, norm1, _, inner, norm2, _, last, norm3 = branch
    out = normalised(F.conv2d(x, first.weight), norm1).clamp(min=0)
    out = normalised(F.conv2d(out, inner.weight, stride=2, padding=1, groups=cardinality), norm2).clamp(min=0)
    out = normalised(F.conv2d(out, last.weight), norm3)
    shortcut = normalised(F.conv2d(x, block.shortcut[0].weight, stride=2), block.shortcut[1])
    torch.testing.assert_close(block(x), (out + shortcut).clamp(min=0))
    assert inner.weight.shape == (4 * group_width // 64 * cardinality, 4 * group_width // 64, 3, 3)


def test_a_pyramids_shortcut_is_a_mean_and_zeros():
    block, x = PyramidBlock(3, 2, 2, torch.nn.Identity()), torch.randn(2, 3, 4, 4)
    for p in block.branch.parameters():
        torch.nn.init.zeros_(p)
    expected = torch.cat([F.avg_pool2d(x, 2), torch.zeros(2, 5, 2, 2)], 1)
    assert torch.equal(block(x), expected)


def test_pyramidnets_branches_are_kept_with_probabilities_that_fall_to_a_half():
    model = build("pyramidnet", {"depth": 29, "alpha": 9}, 0)
    assert [block.drop.keep for block in model.blocks] == pytest.approx([1 - (k + 1) / 18 for k in range(9)])


def test_a_shake_shortcut_sees_even_pixels_and_those_after_them():
    shortcut, x = Shortcut(3, 4, 2).double(), random(2, 3, 4, 4)
    positive = x.clamp(min=0)
    odd = positive[:, :, 1::2, 1::2]
    halves = F.conv2d(positive[:, :, ::2, ::2], shortcut.even.weight), F.conv2d(odd, shortcut.odd.weight)
    torch.testing.assert_close(shortcut(x), normalised(torch.cat(halves, 1), shortcut.norm))


def test_shake_drop_is_its_formula_in_both_passes():
    x = random(400, 2).requires_grad_()
    with random_state_kept():
        torch.manual_seed(0)
        y = ShakeDrop(0.7)(x)
    forward, backward = (y / x)[:, 0], torch.autograd.grad(y.sum(), x)[0][:, 0]
    kept = ((forward - 1).abs() < 1e-9) & ((backward - 1).abs() < 1e-9)  # b = 1 whatever α and β are
    assert abs(kept.double().mean() - 0.7) < 4 * (0.21 / 400) ** 0.5
    alpha, beta = forward[~kept], backward[~kept]
    assert (alpha.min() < -0.8, alpha.max() > 0.8, beta.min() > 0, beta.max() > 0.8) == (True,) * 4
    assert abs(torch.corrcoef(torch.stack([alpha, beta]))[0, 1]) < 4 / len(alpha) ** 0.5
    torch.testing.assert_close(ShakeDrop(0.7).eval()(x), 0.7 * x)


def test_shake_shake_is_its_formula_in_both_passes():
    x, y = random(400, 2).requires_grad_(), random(400, 2, seed=1).requires_grad_()
    with random_state_kept():
        torch.manual_seed(0)
        z = ShakeShake()(x, y)
    alpha = ((z - y) / (x - y))[:, 0]
    torch.testing.assert_close(z, alpha[:, None] * x + (1 - alpha)[:, None] * y)
    beta, rest = (g[:, 0] for g in torch.autograd.grad(z.sum(), (x, y)))
    torch.testing.assert_close(beta + rest, torch.ones_like(beta))
    for share in (alpha.detach(), beta):
        assert (0 < share.min() < 0.05, 0.95 < share.max() < 1) == (True, True)
        assert abs(share.mean() - 0.5) < 4 * (1 / 12 / 400) ** 0.5
    assert abs(torch.corrcoef(torch.stack([alpha.detach(), beta]))[0, 1]) < 0.2
    torch.testing.assert_close(ShakeShake().eval()(x, y), (x + y) / 2)


SMALL = {
    "resnext50": ({"width": 16, "form": "cifar"}, 8),
    "pyramidnet": ({"depth": 11, "alpha": 3}, 8),
    "shake_shake": ({"depth": 8, "width": 2}, 8),
    "cnn": ({"width": 2, "hidden": 4, "image_size": 8}, 8),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_hessian_product_is_the_gradients_derivative(name):
    settings, side = SMALL[name]
    model = build(name, settings, seed=0).double()
    x = random(6, 3, side, side)
    model(x)  # moves the statistics
    problem = Problem(model, F.cross_entropy, (x, torch.arange(6)))
    w, v = problem.vector(), random(problem.size, seed=2)
    h = 1e-6 / v.norm()
    slope = (problem.gradient(w + h * v) - problem.gradient(w - h * v)) / (2 * h)
    torch.testing.assert_close(hessian(problem) @ v, slope, rtol=1e-4, atol=1e-5 * slope.abs().max().item())


def test_the_character_model_looks_back_only():
    model = build("char_lm", {"dim": 8, "depth": 2, "heads": 2, "length": 6, "classes": 5}, 0).double()
    x = torch.tensor([[0, 1, 2, 3, 4, 0]])
    other = torch.tensor([[0, 1, 2, 3, 1, 0]])
    first, second = model(x), model(other)
    assert first.shape == (1, 5, 6)
    torch.testing.assert_close(first[..., :4], second[..., :4])
    assert not torch.allclose(first[..., 4], second[..., 4])
    torch.testing.assert_close(model(x[:, :3]), first[..., :3])  # a shorter text


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet18", {"form": "small"}, "form must be one of 'imagenet' | 'cifar', got 'small'"),
        ("resnet18", {"cardinality": 32}, "cardinality and group_width need depth 50 or more, got 18"),
        ("resnet50", {"width": 1, "group_width": 4}, "width times group_width must be at least 64, got 1 and 4"),
        ("resnet", {"depth": 18}, "got 18; the network for ImageNet is 'resnet18'"),
        ("pyramidnet", {"depth": 100}, "depth must be 9 n + 2 (11, 20, ..., 272), got 100"),
        ("pyramidnet", {"shake_drop": 1.0}, "shake_drop must be in [0, 1), got 1.0"),
        ("shake_shake", {"width": 3}, "width must be even, got 3"),
        ("shake_shake", {"depth": 27}, "depth must be 6 n + 2 (8, 14, 20, 26, ...), got 27"),
        ("cnn", {"image_size": 30}, "image_size must be a multiple of 4, got 30"),
        ("char_lm", {"heads": 3}, "heads must divide dim 32, got 3"),
        ("densenet121", {"growth": 0}, "growth must be an integer at least 1, got 0"),
    ],
)
def test_bad_arguments_say_what_was_expected(name, settings, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        build(name, settings, 0)
    assert message in str(caught.value)
