"""Multilayer perceptron with ReLU."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from landscape.checks import integer_in, one_of


def mlp(
    in_features: int = 64, hidden: Sequence[int] = (64, 64), classes: int = 10, norm: str = "none"
) -> nn.Sequential:
    """Linear layers with ReLU between them; the input is flattened to (batch, in_features).

    Args:
        in_features: entries of one input.
        hidden: width of each hidden layer; empty for a linear model.
        classes: length of the output.
        norm: "none", or "batch" before each ReLU, in place of the bias before it.
    Raises:
        ValueError: if a width is below 1 or norm is unknown.
    """
    widths = [in_features, *hidden, classes]
    for width in widths:
        integer_in("in_features, classes and every width in hidden", width, 1)
    one_of("norm", norm, ("none", "batch"))
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(fan_in, fan_out, bias=norm == "none"))
        layers += [nn.BatchNorm1d(fan_out)] * (norm == "batch") + [nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], classes))
