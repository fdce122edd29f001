"""The operations of AutoAugment and RandAugment against Pillow, and the policies' draws."""

from math import pi

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from landscape.data import image_operations, policies
from landscape.data.image_operations import OPERATIONS, equalize, rotate, shear_x, shear_y, translate_x, translate_y
from landscape.data.policies import CIFAR, NAMES, auto_augment, rand_augment

FILL = torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(seed=0, height=20, width=30):
    """uint8, with structure, not all levels, another range in each channel."""
    source = np.random.default_rng(seed)
    wave = np.sin(np.arange(width) / 4 + np.arange(height)[:, None] / 5)
    channels = [120 + 60 * wave * scale + source.integers(-9, 9, (height, width)) for scale in (1.0, 0.6, -0.9)]
    return np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)


def ours(name, image, strength):
    x = torch.from_numpy(image).double().permute(2, 0, 1)[None] / 255
    made = OPERATIONS[name].function(x, torch.tensor(strength).double().view(1, 1, 1, 1), FILL)
    return (made[0].permute(1, 2, 0) * 255).numpy()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("name", "strength", "pillow", "apart"),
    [
        ("brightness", -0.4, lambda image: ImageEnhance.Brightness(image).enhance(0.6), 1),
        ("brightness", 0.9, lambda image: ImageEnhance.Brightness(image).enhance(1.9), 1),
        ("contrast", 0.5, lambda image: ImageEnhance.Contrast(image).enhance(1.5), 2),
        ("colour", -0.7, lambda image: ImageEnhance.Color(image).enhance(0.3), 2),
        ("sharpness", 0.9, lambda image: ImageEnhance.Sharpness(image).enhance(1.9), 2),
        ("posterize", 3.0, lambda image: ImageOps.posterize(image, 5), 1e-6),
        ("solarize", 0.5, lambda image: ImageOps.solarize(image, 128), 1e-6),
        ("invert", 0.0, ImageOps.invert, 1e-6),
        ("autocontrast", 0.0, ImageOps.autocontrast, 1),
        ("equalize", 0.0, ImageOps.equalize, 1e-6),
        ("identity", 0.0, lambda image: image, 1e-6),
    ],
)
def test_colours_are_pillows(name, strength, pillow, apart, seed):
    image = pixels(seed)
    expected = np.asarray(pillow(Image.fromarray(image)), float)
    assert np.abs(ours(name, image, strength) - expected).max() <= apart


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_images_of_a_few_pixels_are_served(name, side):
    x = torch.rand(2, 3, side, side, generator=seeded(), dtype=torch.float64)
    made = OPERATIONS[name].function(x, torch.full((2, 1, 1, 1), 0.2, dtype=torch.float64), FILL)
    assert made.shape == x.shape
    assert made.isfinite().all()


def test_equalize_leaves_what_has_one_level_and_serves_each_image_by_itself():
    flat = np.full((20, 30, 3), 90, np.uint8)
    assert np.allclose(ours("equalize", flat, 0.0), flat)
    both = torch.stack([torch.from_numpy(pixels(seed)).permute(2, 0, 1) / 255 for seed in (0, 1)])
    each = torch.cat([equalize(one[None], torch.zeros(1), FILL) for one in both])
    assert torch.equal(equalize(both, torch.zeros(2), FILL), each)


def strength(value):
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def test_geometry_on_whole_pixels():
    x = torch.rand(1, 3, 8, 12, generator=seeded(), dtype=torch.float64)
    right = translate_x(x, strength(0.25), FILL)  # three pixels
    torch.testing.assert_close(right[..., :9], x[..., 3:])
    torch.testing.assert_close(right[..., 9:], FILL.expand(1, 3, 8, 3))
    down = translate_y(x, strength(-0.25), FILL)
    torch.testing.assert_close(down[:, :, 2:], x[:, :, :-2])
    square = x[..., :8]
    torch.testing.assert_close(rotate(square, strength(pi / 2 + 1e-9), FILL), square.rot90(1, (2, 3)))
    sheared = shear_x(x, strength(2.0), FILL)  # a row 3.5 below the middle comes from 7 pixels further right
    torch.testing.assert_close(sheared[:, :, 7, :5], x[:, :, 7, 7:])
    torch.testing.assert_close(sheared[:, :, 0, 7:], x[:, :, 0, :5])
    torch.testing.assert_close(shear_y(x.mT, strength(2.0), FILL), sheared.mT)


@pytest.mark.parametrize("vertical", [False, True])
def test_a_turn_of_an_oblong_image_keeps_angles(vertical):
    x = torch.zeros(1, 1, 41, 61, dtype=torch.float64)
    if vertical:
        x[0, 0, :, 30] = 1.0
    else:
        x[0, 0, 20] = 1.0
    turned = rotate(x, strength(pi / 6), torch.zeros(1, 1, 1, 1).double())[0, 0].nonzero().double()
    along, across = (turned - torch.tensor([20, 30])).T.flip(0 if not vertical else ())
    far = along.abs() > 8
    assert far.sum() > 10
    assert ((across / along)[far].abs() - np.tan(pi / 6)).abs().max() < 0.1


SPAN = (torch.full((1, 3, 1, 1), -2.0), torch.full((1, 3, 1, 1), 3.0))


def standardised(count):
    return -2 + 5 * torch.rand(1, 3, 6, 6, generator=seeded(3)).repeat(count, 1, 1, 1)


def watched(monkeypatch):
    """Operation to the strengths it was called with."""
    seen = {name: [] for name in NAMES}

    def replaced(name, operation):
        def function(x, strength, fill):
            seen[name] += strength.flatten().tolist()
            return operation.function(x, strength, fill)

        return image_operations.Operation(function, operation.highest, operation.signed)

    made = {name: replaced(name, operation) for name, operation in OPERATIONS.items()}
    monkeypatch.setattr(policies, "OPERATIONS", made)
    return seen


def test_strengths_are_torchvisions():
    """pytorch/vision, torchvision/transforms/autoaugment.py, _augmentation_space."""
    highest = {"rotate": np.deg2rad(30), "posterize": 4, "solarize": 1}
    highest |= dict.fromkeys(("shear_x", "shear_y"), 0.3) | dict.fromkeys(("translate_x", "translate_y"), 150 / 331)
    highest |= dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), 0.9)
    for name, expected in highest.items():
        assert OPERATIONS[name].highest == pytest.approx(expected)
        assert OPERATIONS[name].signed == (name not in {"posterize", "solarize"})
    levels = torch.arange(256, dtype=torch.float64).view(1, 1, 16, 16) / 255
    for magnitude in range(10):
        made = OPERATIONS["posterize"].function(levels, strength(4 * magnitude / 9), FILL)
        assert len(made.unique()) == 2 ** (8 - round(magnitude / (9 / 4)))


def test_rand_augment_draws_fourteen_operations_alike_at_its_magnitude(monkeypatch):
    seen, count = watched(monkeypatch), 3000
    x = standardised(count)
    made = rand_augment(x, 2, 15, SPAN, seeded())
    assert not seen["invert"]
    sigma = (2 * count * (1 / 14) * (13 / 14)) ** 0.5
    for name, operation in list(OPERATIONS.items())[1:-1]:
        assert abs(len(seen[name]) - 2 * count / 14) < 4 * sigma
        expected = {operation.highest / 2, -operation.highest / 2} if operation.signed else {operation.highest / 2}
        assert {round(value, 6) for value in seen[name]} == {round(value, 6) for value in expected}
    assert made.min() >= -2 - 1e-5
    assert made.max() <= 3 + 1e-5
    torch.testing.assert_close(rand_augment(x, 2, 15, SPAN, seeded()), made)
    torch.testing.assert_close(rand_augment(x[:4], 0, 15, SPAN, seeded()), x[:4])


def test_auto_augment_draws_its_pairs(monkeypatch):
    seen, count = watched(monkeypatch), 5000
    auto_augment(standardised(count), SPAN, seeded())
    chances = dict.fromkeys(NAMES, 0.0)
    for first, p, _, second, q, _ in CIFAR:
        chances[first] += p / 25
        chances[second] += q / 25
    for name, chance in chances.items():
        assert abs(len(seen[name]) - count * chance) < 4 * (count * chance) ** 0.5 + 1e-9
    levels = {value for row in CIFAR for place, value in ((row[0], row[2]), (row[3], row[5])) if place == "rotate"}
    assert {round(abs(value), 5) for value in seen["rotate"]} == {round(level / 9 * pi / 6, 5) for level in levels}
