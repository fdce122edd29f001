"""Condition number of the neural tangent kernel K = J Jᵀ, J the derivative of the outputs by the weights.

An ill-conditioned kernel trains slowly along its small eigenvalues.
Source: Jacot et al. 2018, arXiv:1806.07572; as a measure of trainability Chen, Hsieh and Gong 2022, arXiv:2106.01548.
"""

import torch
from torch import Tensor

from landscape.checks import integer_in, require
from landscape.metrics.metric import measured
from landscape.metrics.subsets import first_samples
from landscape.problem import Problem
from landscape.problem.batch import Batch, gradient_of
from landscape.problem.cost import GAUSS_NEWTON, GRADIENT
from landscape.side_effects import derivatives_on
from landscape.storage.results import Estimate

LARGEST = 4096  # outputs in all: a kernel of 128 MiB in float64
CLASSES = 10  # of a sample, as in CIFAR-10, where only the cost is wanted


def ntk_cost(*, samples: int, units: float, **_: object) -> float:
    """A gradient, and a column of the kernel for each output of the samples."""
    few = min(samples, units)
    return (GRADIENT + GAUSS_NEWTON * CLASSES * few) * few / units


@measured
def ntk_condition_number(problem: Problem, *, samples: int = 8, generator: torch.Generator | None = None) -> Estimate:
    """lambda_max / lambda_min of the kernel of the first samples' outputs, at most 1/eps of the parameters' dtype.

    Args:
        problem: the scalar function; the outputs must be one tensor.
        samples: of the data, in its order, at least 2. With C outputs each, samples · C columns of the kernel are
            computed, each about three gradients of the samples; no Jacobian is held.
        generator: not used; for the common signature.
    Returns:
        Estimate with stderr 0; details: lambda_max, lambda_min, outputs.
    Raises:
        ValueError: if samples is out of range, or the outputs are more than 4,096 numbers.
    """
    integer_in("samples", samples, 2)
    part = first_samples(problem, samples)
    count = part.outputs().numel()
    require(count <= LARGEST, f"samples must have at most {LARGEST} outputs in all, got {count}; use fewer samples")
    with derivatives_on():
        cost = GRADIENT + GAUSS_NEWTON * count
        kernel = part.mean(_kernel, second_order=True, shape=(count, count), cost=cost).double().cpu()
    values = torch.linalg.eigvalsh((kernel + kernel.T) / 2)
    top, least = float(values[-1]), float(values[0])
    require(top > 0, "the outputs must depend on the parameters, got a kernel of zeros")
    ratio = top / max(least, torch.finfo(part.vector().dtype).eps * top)
    return Estimate.exact(ratio, lambda_max=top, lambda_min=least, outputs=float(count))


def _kernel(batch: Batch) -> Tensor:
    """J Jᵀ column by column, (n C, n C): Jᵀu is linear in u, so its derivative with respect to u is J."""
    leaf = batch.w.requires_grad_()
    z = batch.evaluate(leaf)[1]
    u = torch.zeros_like(z).requires_grad_()
    pulled_back = gradient_of(z, leaf, u, create=True)  # Jᵀu, (P,)
    directions = torch.eye(z.numel(), dtype=z.dtype, device=z.device).view(-1, *z.shape)
    columns = [gradient_of(pulled_back, u, gradient_of(z, leaf, e, keep=True), keep=True) for e in directions]
    return torch.stack([column.flatten() for column in columns], dim=1)
