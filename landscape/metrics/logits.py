"""Logit normalisation: subtract each sample's mean logit and divide by the norm of the rest.

It takes the scale of the logits out of the comparison of networks: without it, a network of larger logits has a smaller
loss and a flatter one. The loss then is that of logits of norm 1, high and without a minimum at confident predictions.
Source: Andriushchenko et al. 2023, arXiv:2302.07011, section 2.
"""

from typing import Any

import torch
from torch import nn

from landscape.problem import Problem


def with_normalized_logits(problem: Problem) -> Problem:
    """The same network with normalised outputs, along their last axis."""

    def normalized(model: nn.Module, inputs: Any) -> torch.Tensor:
        logits = problem.forward(model, inputs)
        centred = logits - logits.mean(-1, keepdim=True)
        return centred / centred.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(centred.dtype).tiny)

    return problem.with_forward(normalized)
