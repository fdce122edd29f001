"""The central difference against the closed form of a cubic."""

import torch

from landscape.autograd.central_difference import central_difference


def test_of_a_cubic_it_is_the_derivative_and_h_squared():
    difference, ahead, behind = central_difference(lambda t: (torch.tensor([1.0, 2.0]) + t) ** 3, 0.5)
    assert torch.equal(difference, torch.tensor([3.25, 12.25]))
    assert torch.equal(torch.stack([ahead, behind]), torch.tensor([[3.375, 15.625], [0.125, 3.375]]))
