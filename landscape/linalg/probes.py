"""Random test vectors. Drawn in float64 on the generator's device, so that a seed gives the same probes everywhere."""

import torch
from torch import Tensor

from landscape.linalg.operator import CurvatureOperator
from landscape.vectors import Block


def gaussian(operator: CurvatureOperator, count: int, source: torch.Generator) -> Block:
    """Standard normal vectors, (P, count), in the operator's dtype and on its device."""
    block: Tensor = operator.space.normal(count, source).T.to(operator.device, operator.dtype)
    return block


def rademacher(operator: CurvatureOperator, count: int, source: torch.Generator) -> Block:
    """Vectors of independent signs, (P, count): of all isotropic probes those of least variance for a trace."""
    return gaussian(operator, count, source).sign()


def sphere(operator: CurvatureOperator, count: int, source: torch.Generator) -> Block:
    """Vectors uniform on the sphere of radius sqrt(P), (P, count)."""
    block = gaussian(operator, count, source)
    return block / operator.space.norms(block) * operator.shape[0] ** 0.5
