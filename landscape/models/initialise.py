"""Initial weights: normal, with a variance that keeps the size of the activations; biases are zero."""

import torch
from torch import nn


@torch.no_grad()
def he_normal(network: nn.Module) -> None:
    """Convolutions before ReLU: variance 2 / fan_out. Source: He et al. 2015, arXiv:1502.01852."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                module.bias.zero_()


@torch.no_grad()
def lecun_normal(network: nn.Module) -> None:
    """Convolutions and linear layers: variance 1 / fan_in. Source: LeCun et al. 1998, "Efficient BackProp"."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                module.bias.zero_()
