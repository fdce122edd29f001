"""Sharpness as an optimiser sees it: the largest eigenvalue of P⁻¹H, P its preconditioner.

Full-batch training raises it to the optimiser's threshold of stability and hovers there, the edge of stability.
Source: Cohen et al. 2021, arXiv:2103.00065 (gradient descent); 2022, arXiv:2207.14484 (Adam and others).
"""

import torch

from landscape.curvature.preconditioned import preconditioned_hessian, stability_threshold
from landscape.linalg import top_eigenpairs
from landscape.metrics.metric import measured
from landscape.metrics.spectral import TOL, largest
from landscape.problem import Problem
from landscape.storage.results import Estimate


@measured
def preconditioned_sharpness(
    problem: Problem, *, optimizer: torch.optim.Optimizer | None = None, generator: torch.Generator | None = None
) -> Estimate:
    """λmax(P⁻¹H), as that of the symmetric P^-½ H P^-½; stderr is its residual bound. λmax(H) itself for SGD.

    In `analyze`: analyze(problem, {"preconditioned_sharpness": Metric(preconditioned_sharpness, {"optimizer": own})}).

    Args:
        problem: the scalar function, at the weights that the optimiser has come to.
        optimizer: what trains the model, with its state: SGD, Adam, AdamW, RMSprop, Adagrad, or one around these.
        generator: for the Lanczos start; default seed 0.
    Returns:
        Estimate in units of 1/η (for SGD loss units per parameter unit squared); details: converged (1 or 0), and
        threshold, above which full-batch steps diverge on a quadratic, see `stability_threshold`.
    Raises:
        ValueError: without an optimiser or its state, or if it is of another kind.
    """
    if optimizer is None:
        raise ValueError(
            "optimizer must be given: the torch optimiser that trains the model, with its state "
            "(optimizer.load_state_dict(...) of the checkpoint); without one there is lambda_max"
        )
    threshold = stability_threshold(optimizer)
    operator = preconditioned_hessian(problem, optimizer)
    return largest(
        top_eigenpairs(operator, 1, which="LA", tol=TOL, generator=generator, progress=False), threshold=threshold
    )
