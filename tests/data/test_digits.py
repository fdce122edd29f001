import random

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from landscape.data import DATASETS, digits


def test_shapes_types_and_standardisation():
    data = digits()
    assert data.train_inputs.shape == (1200, 1, 8, 8)
    assert data.test_inputs.shape == (597, 1, 8, 8)
    assert data.train_inputs.dtype == data.test_inputs.dtype == torch.float32
    assert data.train_targets.dtype == data.test_targets.dtype == torch.int64
    assert data.train_targets.unique().tolist() == list(range(data.classes))
    assert abs(data.train_inputs.double().mean()) < 1e-6
    assert abs(data.train_inputs.double().std() - 1) < 1e-6


def test_every_image_is_there_once_with_its_class():
    pixels, classes = load_digits(return_X_y=True)
    data = digits()
    ours = torch.cat([data.train_inputs, data.test_inputs]).view(-1, 64)
    scale = (ours.max() - ours.min()) / 16
    rows = ((ours - ours.min()) / scale).round().int()
    found = sorted(zip(map(tuple, rows.tolist()), [*data.train_targets.tolist(), *data.test_targets.tolist()]))  # noqa: B905
    assert found == sorted(zip(map(tuple, pixels.astype(int).tolist()), classes.tolist(), strict=True))


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.333, 1.0])
def test_an_exact_share_of_labels_is_flipped_to_another_class(noise):
    data = digits(noise, seed=3)
    assert int(data.flipped.sum()) == round(noise * 1200)
    assert torch.equal(data.clean_targets, digits().train_targets)
    assert torch.equal(data.test_targets, digits().test_targets)
    assert data.train_targets.min() >= 0
    assert data.train_targets.max() <= 9


def test_flips_are_symmetric():
    shifts = torch.cat(
        [(d.train_targets - d.clean_targets)[d.flipped] % 10 for d in (digits(1.0, seed) for seed in range(10))]
    )
    counts = torch.bincount(shifts, minlength=10)[1:].double()
    assert counts.sum() == 12000
    expected, sigma = 12000 / 9, (12000 * (1 / 9) * (8 / 9)) ** 0.5
    assert ((counts - expected).abs() < 4 * sigma).all()


def test_the_seed_chooses_the_flips_and_not_the_split():
    a, b, again = digits(0.2, 0), digits(0.2, 1), digits(0.2, 0)
    assert torch.equal(a.train_inputs, b.train_inputs)
    assert not torch.equal(a.train_targets, b.train_targets)
    assert torch.equal(a.train_targets, again.train_targets)
    assert torch.equal(digits(test_size=100).test_targets, a.test_targets[:100])


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    digits(0.5, seed=7)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_noise": 1.5}, r"label_noise must be in \[0, 1\], got 1.5"),
        ({"label_noise": float("nan")}, "label_noise must be"),
        ({"test_size": 0}, r"test_size must be an integer in \[1, 1796\], got 0"),
        ({"test_size": 1797}, "test_size must be"),
    ],
)
def test_bad_arguments_say_what_was_expected(settings, message):
    with pytest.raises(ValueError, match=message):
        DATASETS["digits"](**settings)
