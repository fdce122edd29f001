import pytest
import torch
import torch.nn.functional as F

from landscape.data.augment import (
    Augmentation,
    colour_jitter,
    cutmix,
    cutout,
    horizontal_flip,
    mixup,
    random_crop,
    random_erasing,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=3, height=5, width=7):
    """Every pixel another number, none of them 0."""
    return torch.arange(1.0, 1 + count * 2 * height * width).view(count, 2, height, width)


def chosen(outputs, candidates):
    """Which of the candidates (K, N, ...) each output (N, ...) is; it must be one and only one."""
    equal = (outputs == candidates).flatten(2).all(2)  # (K, N)
    assert (equal.sum(0) == 1).all()
    return equal.int().argmax(0)


def assert_uniform(choices, count):
    """Each of `count` equally likely choices as often as expected, within 4 standard errors."""
    found = torch.bincount(choices, minlength=count).double()
    expected, sigma = len(choices) / count, (len(choices) * (count - 1)) ** 0.5 / count
    assert ((found - expected).abs() < 4 * sigma).all()


def test_a_crop_is_one_of_all_windows_of_the_padded_image_each_equally_likely():
    x = images(1).repeat(5000, 1, 1, 1)
    padded = F.pad(x, (2, 2, 2, 2))
    windows = [padded[:, :, top : top + 5, left : left + 7] for top in range(5) for left in range(5)]
    assert_uniform(chosen(random_crop(x, 2, seeded()), torch.stack(windows)), 25)


def test_a_flip_is_the_image_or_its_mirror_image():
    x = images(1).repeat(5000, 1, 1, 1)
    mirrored = torch.stack([x[..., i] for i in range(6, -1, -1)], -1)
    assert_uniform(chosen(horizontal_flip(x, seeded()), torch.stack([x, mirrored])), 2)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_cutout_takes_a_square_around_every_pixel_equally_often(size):
    x = images(1).repeat(5000, 1, 1, 1)
    holes = []
    for i in range(5):
        for j in range(7):
            hole = x.clone()
            top, left = i - size // 2, j - size // 2
            hole[:, :, max(top, 0) : top + size, max(left, 0) : left + size] = 0
            holes.append(hole)
    assert_uniform(chosen(cutout(x, size, seeded()), torch.stack(holes)), 35)


def test_every_image_has_its_own_draw():
    x = images(64)
    for augmented in (random_crop(x, 2, seeded()), cutout(x, 3, seeded())):
        assert len({tuple((after == 0)[0].flatten().tolist()) for after in augmented}) > 8
    assert 0 < (horizontal_flip(x, seeded()) == x).flatten(1).all(1).sum() < 64


def test_mixup_mixes_images_and_targets_by_one_share():
    x, y = images(6).double(), torch.arange(6)
    mixed, soft = mixup(x, y, 6, 0.7, seeded())
    torch.testing.assert_close(mixed, torch.einsum("nc,cijk->nijk", soft, x))  # a target says what is in its image
    torch.testing.assert_close(soft.sum(1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(soft.sum(0), torch.ones(6, dtype=torch.float64))  # the other order has all images too
    assert len({*(round(value, 9) for value in soft.flatten().tolist())} - {0.0, 1.0}) == 2  # λ and 1 − λ


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_share_follows_the_beta_distribution(alpha):
    generator, x = seeded(), torch.zeros(2, 1, 1, 1, dtype=torch.float64)
    shares = []
    while len(shares) < 2000:
        soft = mixup(x, torch.tensor([0, 1]), 2, alpha, generator)[1]
        shares.append(soft[0, 0].item())
    kept = torch.tensor([share for share in shares if share != 1.0])  # where the order stayed, nothing is mixed
    assert 850 < len(kept) < 1150
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(kept.mean() - 0.5) < 4 * (variance / len(kept)) ** 0.5
    fourth = 3 * variance**2 * (1 + 2 * alpha) / (3 + 2 * alpha)  # kurtosis of Beta(α, α): 3 − 6 / (3 + 2 α)
    assert abs(((kept - 0.5) ** 2).mean() - variance) < 4 * ((fourth - variance**2) / len(kept)) ** 0.5


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_mixed_targets_is_the_mixed_cross_entropy(smoothing):
    y = torch.tensor([2, 0, 1, 1])
    x = torch.eye(4, dtype=torch.float64).view(4, 1, 2, 2)
    mixed, soft = mixup(x, y, 3, 1.0, seeded(1))
    shares = mixed.view(4, 4)  # row n: how much of each image is in n
    logits = torch.randn(4, 3, dtype=torch.float64, generator=seeded())
    losses = torch.stack(
        [F.cross_entropy(logits, y[[i] * 4], reduction="none", label_smoothing=smoothing) for i in range(4)], 1
    )
    assert (shares < 1).any()
    torch.testing.assert_close(
        F.cross_entropy(logits, soft, label_smoothing=smoothing), (shares * losses).sum(1).mean()
    )


ALL = Augmentation(crop=2, flip=True, cutout=2, mixup=0.5)


def test_the_generator_alone_decides_and_the_batch_is_left_as_it_was():
    x, y = images(8), torch.arange(8)
    before, kept = torch.get_rng_state(), x.clone()
    (a, p), (b, q), (c, _) = (ALL(x, y, 8, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert torch.equal(p, q)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(x, kept)
    assert a.shape == x.shape
    assert a.dtype == p.dtype == x.dtype


def test_all_together_are_each_in_its_turn():
    x, y, source = images(8), torch.arange(8), seeded()
    expected = mixup(cutout(horizontal_flip(random_crop(x, 2, source), source), 2, source), y, 8, 0.5, source)
    for ours, theirs in zip(ALL(x, y, 8, seeded()), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_no_augmentation_draws_nothing():
    x, y, generator = images(), torch.arange(3), seeded()
    before = generator.get_state()
    same, targets = Augmentation()(x, y, 3, generator)
    assert same is x
    assert targets is y
    assert torch.equal(generator.get_state(), before)


def test_cutmix_takes_a_rectangle_of_another_image_and_its_share_of_the_target():
    x, y = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 8, 12).contiguous(), torch.arange(6)
    shares = []
    for seed in range(300):
        mixed, soft = cutmix(x, y, 6, 1.0, seeded(seed))
        other = mixed[:, 0] != x[:, 0]
        taken = other[other.flatten(1).any(1)]
        assert (taken == taken[:1]).all()  # one rectangle
        for mask in taken[:1]:
            rows, columns = mask.any(1), mask.any(0)
            assert torch.equal(mask, rows[:, None] & columns)
        means = mixed.mean((1, 2, 3))
        torch.testing.assert_close(soft @ torch.arange(6.0), means)  # a target says what is in its image
        shares.append(1 - soft[0, 0].item())
    assert min(shares) < 0.1
    assert max(shares) > 0.6


def test_random_erasing_puts_noise_into_a_rectangle_inside_the_image():
    x = torch.full((4000, 1, 20, 30), 100.0)
    made = random_erasing(x, 0.6, seeded())
    holes = (made != 100)[:, 0]
    erased = holes.flatten(1).any(1)
    assert abs(erased.double().mean() - 0.6) < 4 * (0.24 / 4000) ** 0.5
    rows, columns = holes.any(2), holes.any(1)
    assert torch.equal(holes, rows[:, :, None] & columns[:, None])
    sides = rows.sum(1)[erased].double(), columns.sum(1)[erased].double()
    share = sides[0] * sides[1] / 600
    assert 0.01 < share.min() < 0.03
    assert 0.35 < share.max() < 0.45
    whole = (sides[0] < 20) & (sides[1] < 30) & (share > 0.1)
    ratio = (sides[0] / sides[1])[whole]
    assert 0.25 < ratio.min() < 0.4
    assert 2.5 < ratio.max() < 3.8
    assert holes.any(0).all()
    noise = made[:, 0][holes]
    assert abs(noise.mean()) < 4 / len(noise) ** 0.5
    assert abs(noise.var() - 1) < 4 * (2 / len(noise)) ** 0.5


def test_colour_jitter_multiplies_brightness_contrast_and_saturation():
    span = torch.full((1, 3, 1, 1), -1.0), torch.full((1, 3, 1, 1), 1.0)
    x = torch.rand(50, 3, 6, 6, generator=seeded()) * 0.3
    made = (colour_jitter(x, 0.2, span, seeded(1)) + 1) / 2
    factors = 1 + 0.2 * (2 * torch.rand(3, 50, generator=seeded(1)) - 1)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    for image, first, second, third, found in zip((x + 1) / 2, *factors, made, strict=True):
        mean = first * (image * weights).sum(0).mean()
        contrasted = mean + second * (first * image - mean)
        grey = (contrasted * weights).sum(0)
        torch.testing.assert_close(found, (grey + third * (contrasted - grey)).clamp(0, 1))


def test_mixup_and_cutmix_take_turns():
    augment = Augmentation(mixup=1.0, cutmix=1.0)
    x, y = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 8, 12).contiguous(), torch.arange(6)
    mixed = [augment(x, y, 6, seeded(seed))[0] for seed in range(400)]
    smooth = sum(bool((one == one[:, :, :1, :1]).all()) for one in mixed)  # one value an image
    assert abs(smooth - 200) < 4 * 10 + 20  # a rectangle of no pixel is also smooth


def test_colours_need_black_and_white():
    with pytest.raises(ValueError, match="auto_augment, rand_augment and jitter need span"):
        Augmentation(jitter=0.1)(images(), torch.arange(3), 3, seeded())
