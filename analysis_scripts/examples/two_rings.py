"""A network and data of one's own for `landscape train`: two noisy rings in the plane, told apart by a perceptron.

landscape train RUN --config analysis_scripts/configs/own_network_and_data.yaml
"""

import torch
from torch import Tensor, nn


def rings(points: int = 600, noise: float = 0.1) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(train, test), each points (N, 2) and labels (N,): 0 on the circle of radius 1, 1 on that of radius 2."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(2 * points) % 2
    angles = 2 * torch.pi * torch.rand(2 * points, generator=draw)
    radii = 1 + labels + noise * torch.randn(2 * points, generator=draw)
    inputs = torch.stack([radii * angles.cos(), radii * angles.sin()], dim=1)
    return (inputs[:points], labels[:points]), (inputs[points:], labels[points:])


def network(width: int = 16) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))
