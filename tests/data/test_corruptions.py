"""Each corruption against its formula; all of them stronger with severity, in [0, 1] and the same for one generator."""

import colorsys

import pytest
import torch

from landscape.data.corruptions import CORRUPTIONS, brightness, corrupt, defocus_blur, gaussian_blur


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(side=16, count=3, channels=3):
    drawn = torch.rand(count, channels, side, side, generator=generator(1), dtype=torch.float64)
    smooth = torch.nn.functional.avg_pool2d(drawn, 3, 1, 1, count_include_pad=False)
    return 0.2 + 0.6 * (smooth - smooth.min()) / (smooth.max() - smooth.min())


@pytest.mark.parametrize("side", [8, 32, 96])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severities_rise_in_0_to_1_and_follow_the_generator(name, channels, side):
    x = images(side, channels=channels)
    made = [corrupt(x, name, severity, generator()) for severity in (1, 2, 3, 4, 5)]
    assert all(torch.equal(one, corrupt(x, name, k + 1, generator())) for k, one in enumerate(made))
    assert all(one.shape == x.shape and one.min() >= 0 and one.max() <= 1 for one in made)
    distance = [(one - x).square().mean().item() for one in made]
    if name != "pixelate":  # whose distance depends on how the old and the new grid lie
        assert distance == sorted(distance)
        assert distance[0] < distance[-1]


def test_noises_have_their_mean_and_variance():
    x = torch.full((1, 1, 300, 300), 0.5, dtype=torch.float64)
    count = x.numel()
    expected = {"gaussian_noise": 0.08**2, "shot_noise": 0.5 / 60, "speckle_noise": (0.15 * 0.5) ** 2}
    for name, variance in expected.items():
        y = corrupt(x, name, 1, generator())
        assert abs(y.mean() - 0.5) < 4 * (variance / count) ** 0.5
        assert abs(y.var() - variance) < 4 * variance * (2 / count) ** 0.5
    y = corrupt(x, "impulse_noise", 5, generator())
    for end in (0.0, 1.0):
        assert abs((y == end).double().mean() - 0.135) < 4 * (0.135 / count) ** 0.5
    assert abs((y == 0.5).double().mean() - 0.73) < 4 * (0.2 / count) ** 0.5


def test_contrast_and_pixels_are_their_formulas():
    x = images(20)
    mean = x.mean((2, 3), keepdim=True)
    torch.testing.assert_close(corrupt(x, "contrast", 3, generator()), mean + 0.4 * (x - mean))
    blocks = images(80)
    tiles = blocks.view(3, 3, 20, 4, 20, 4).mean((3, 5))  # severity 5 keeps a quarter of a side
    expected = tiles.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(corrupt(blocks, "pixelate", 5, generator()), expected)


def test_brightness_raises_the_value_of_hsv():
    x = images(4)
    x[0, :, 0, 0] = 0.0  # black
    found = brightness(x, 0.5, generator())
    for index in range(3):
        for pixel, other in zip(x[index].flatten(1).T, found[index].flatten(1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
            expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.5, 1))
            assert other.tolist() == pytest.approx(expected)


def by_pixel(x, weight):
    """Σ weight(offset) x(pixel + offset) / Σ weight, for the pixel in the middle."""
    half = x.shape[-1] // 2
    offsets = range(-half, half + 1)
    weights = torch.tensor([[weight(i, j) for j in offsets] for i in offsets], dtype=x.dtype)
    return (weights * x).sum((2, 3)) / weights.sum()


def test_blurs_are_sums_over_pixels():
    x = images(25)
    gauss = torch.tensor
    found = gaussian_blur(x, 2, generator())[:, :, 12, 12]
    cut = by_pixel(x, lambda i, j: gauss(-(i**2 + j**2) / 8).exp() * (abs(i) <= 8 and abs(j) <= 8))
    torch.testing.assert_close(found, cut)
    disc = by_pixel(x, lambda i, j: float(i**2 + j**2 <= 16))
    torch.testing.assert_close(defocus_blur(x, (4, 1e-3), generator())[:, :, 12, 12], disc)
    flat = torch.full((1, 3, 9, 9), 0.3, dtype=torch.float64)
    for name in ("gaussian_blur", "defocus_blur"):
        torch.testing.assert_close(corrupt(flat, name, 5, generator()), flat)


def test_what_is_no_corruption_is_told():
    with pytest.raises(ValueError, match="corruption must be one of 'gaussian_noise'"):
        corrupt(images(), "fog", 1, generator())
    with pytest.raises(ValueError, match=r"severity must be an integer in \[1, 5\], got 6"):
        corrupt(images(), "contrast", 6, generator())
