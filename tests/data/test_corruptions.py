"""Each corruption against its formula; all of them stronger with severity, in [0, 1] and the same for one generator."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from landscape.data.corruptions import CORRUPTIONS, brightness, corrupt, defocus_blur, gaussian_blur, pixelate


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(side=16, count=3, channels=3):
    drawn = torch.rand(count, channels, side, side, generator=generator(1), dtype=torch.float64)
    smooth = torch.nn.functional.avg_pool2d(drawn, 3, 1, 1, count_include_pad=False)
    return 0.2 + 0.6 * (smooth - smooth.min()) / (smooth.max() - smooth.min())


@pytest.mark.parametrize("side", [8, 32, 96, 128])
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
    blocks = images(128)
    tiles = blocks.view(3, 3, 32, 4, 32, 4).mean((3, 5))  # severity 5 keeps a quarter of a side
    expected = tiles.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(corrupt(blocks, "pixelate", 5, generator()), expected)


@pytest.mark.parametrize(("side", "place"), [(32, 1), (64, 2), (224, 3)])
def test_pixels_are_pillows_boxes(side, place):
    grey = np.random.default_rng(0).random((side, side), np.float32)
    for share in CORRUPTIONS["pixelate"][place]:
        fewer = Image.fromarray(grey).resize((int(side * share),) * 2, Image.Resampling.BOX)
        expected = np.asarray(fewer.resize((side, side), Image.Resampling.BOX))
        found = pixelate(torch.from_numpy(grey)[None, None], share, generator())[0, 0]
        assert np.abs(found.numpy() - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("side", "share", "noise"), [(63, 0.65, 0.1), (64, 0.5, 0.18), (127, 0.5, 0.18), (128, 0.25, 0.38)]
)
def test_the_border_of_the_sizes(side, share, noise):
    x = images(side)
    torch.testing.assert_close(corrupt(x, "pixelate", 5, generator()), pixelate(x, share, generator()))
    grey = torch.full((1, 1, side, side), 0.5, dtype=torch.float64)
    change = corrupt(grey, "gaussian_noise", 5, generator()) - grey
    drawn = torch.randn(grey.shape, generator=generator(), dtype=torch.float32).double()
    torch.testing.assert_close(change, (noise * drawn).clamp(-0.5, 0.5))


def test_brightness_raises_the_value_of_hsv():
    x = images(4)
    x[0, :, 0, 0] = 0.0  # black
    found = brightness(x, 0.5, generator())
    for index in range(3):
        for pixel, other in zip(x[index].flatten(1).T, found[index].flatten(1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
            expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.5, 1))
            assert other.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("sigma", [0.4, 0.6, 0.7, 0.8, 1, 1.25, 2, 6])
def test_gaussian_blur_is_scipys(sigma):
    x = images(25)
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    torch.testing.assert_close(gaussian_blur(x, sigma, generator()), torch.from_numpy(expected))


@pytest.mark.parametrize("side", [25, 4, 1])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_defocus_blur_is_a_smoothed_disc(place, side):
    """The kernel as the benchmark's code makes it, 17 x 17 up to a radius of 8, then made to sum to 1."""
    x = images(side)
    for radius, sigma in CORRUPTIONS["defocus_blur"][place]:
        half, edge = (8, 1) if radius <= 8 else (radius, 2)
        offsets = np.arange(-half, half + 1)
        disc = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(float)
        line = np.exp(-(np.arange(-edge, edge + 1) ** 2) / (2 * sigma**2))
        for axis in (0, 1):
            disc = ndimage.correlate1d(disc, line / line.sum(), axis, mode="mirror")
        expected = ndimage.correlate(x.numpy(), (disc / disc.sum())[None, None], mode="mirror")
        torch.testing.assert_close(defocus_blur(x, (radius, sigma), generator()), torch.from_numpy(expected))


def test_blurs_leave_what_is_flat():
    flat = torch.full((1, 3, 9, 9), 0.3, dtype=torch.float64)
    for name in ("gaussian_blur", "defocus_blur"):
        torch.testing.assert_close(corrupt(flat, name, 5, generator()), flat)


def test_what_is_no_corruption_is_told():
    with pytest.raises(ValueError, match="corruption must be one of 'gaussian_noise'"):
        corrupt(images(), "fog", 1, generator())
    with pytest.raises(ValueError, match=r"severity must be an integer in \[1, 5\], got 6"):
        corrupt(images(), "contrast", 6, generator())
