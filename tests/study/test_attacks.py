"""FGSM and PGD against a loop by hand and the closed form of a linear network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from landscape.models import build
from landscape.study.attacks import fgsm, pgd

SPAN = (torch.full((1, 3, 1, 1), -2.0), torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1))


def network():
    model = build("resnet", {"width": 4, "norm": "batch", "in_channels": 3}, 0).double()
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = SPAN[0] + (SPAN[1] - SPAN[0]) * x
    model(images)
    return model, images, torch.arange(6)


def by_hand(model, x, y, size, steps, step):
    black, white = SPAN
    first = x
    for _ in range(steps):
        x = x.detach().requires_grad_()
        F.cross_entropy(model(x), y).backward()
        moved = x.detach() + step * (white - black) * x.grad.sign()
        moved = first + (moved - first).clamp(-size * (white - black), size * (white - black))
        x = moved.clamp(black, white)
    return x


@pytest.mark.parametrize(("steps", "size", "step"), [(10, 8 / 255, 2 / 255), (10, 0.3, 0.1), (1, 0.1, 0.1)])
def test_pgd_is_the_loop_by_hand(steps, size, step):
    model, x, y = network()
    expected = by_hand(model.eval(), x, y, size, steps, step)
    model.zero_grad()
    model.train()
    found = pgd(model, x, y, SPAN, size=size, steps=steps, step=step)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    if steps == 1:
        torch.testing.assert_close(fgsm(model, x, y, SPAN, size=size), expected, rtol=0, atol=1e-6)


def test_a_random_start_stays_in_the_ball_and_follows_its_generator():
    model, x, y = network()
    made = [pgd(model, x, y, SPAN, size=0.1, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    unit = SPAN[1] - SPAN[0]
    assert ((made[0] - x).abs() <= 0.1 * unit + 1e-12).all()
    assert ((made[0] >= SPAN[0]) & (made[0] <= SPAN[1])).all()


def test_on_a_linear_network_the_margin_falls_by_size_times_the_1_norm():
    model = nn.Sequential(nn.Flatten(), nn.Linear(27, 2)).double()
    x = torch.rand(200, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.2 + 0.4
    span = (torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    y = model(x).argmax(1)
    margin = (model[1].weight[1] - model[1].weight[0]).abs().sum()
    before, after = (model(z).diff(dim=1)[:, 0].abs() for z in (x, pgd(model, x, y, span, size=0.02, steps=10)))
    signed = model(pgd(model, x, y, span, size=0.02, steps=10)).diff(dim=1)[:, 0] * (2 * y - 1)
    torch.testing.assert_close(signed, before - 0.02 * margin)
    torch.testing.assert_close(after, signed.abs())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": -0.1}, "size must be finite and at least 0, got -0.1"),
        ({"steps": 0}, "steps must be an integer at least 1, got 0"),
        ({"step": 0.0}, "step must be positive and finite, got 0.0"),
    ],
)
def test_bad_settings_are_told(settings, message):
    model, x, y = network()
    with pytest.raises(ValueError, match=message):
        pgd(model, x, y, SPAN, **settings)


def test_no_size_changes_nothing():
    model, x, y = network()
    torch.testing.assert_close(fgsm(model, x, y, SPAN, size=0.0), x)
