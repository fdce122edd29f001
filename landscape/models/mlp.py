"""Multilayer perceptron with ReLU."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from landscape.checks import integer_in


def mlp(in_features: int = 64, hidden: Sequence[int] = (64, 64), classes: int = 10) -> nn.Sequential:
    """Linear layers with ReLU between them; the input is flattened to (batch, in_features).

    Args:
        in_features: entries of one input.
        hidden: width of each hidden layer; empty for a linear model.
        classes: length of the output.
    Raises:
        ValueError: if a width is below 1.
    """
    widths = [in_features, *hidden, classes]
    for width in widths:
        integer_in("in_features, classes and every width in hidden", width, 1)
    layers: list[nn.Module] = [nn.Flatten()]
    for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
        layers += [nn.ReLU()] * (index > 0) + [nn.Linear(fan_in, fan_out)]
    return nn.Sequential(*layers)
