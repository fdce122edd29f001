"""PyHessian's interface on certified solvers: `from landscape.interop.pyhessian import hessian`.

The call signatures and return shapes of `pyhessian.hessian` 0.1 (Yao et al. 2020, arXiv:1912.07145), written anew. What
differs: the model stays as it was found (PyHessian leaves it in eval mode, with gradients that add up over objects);
`tol` bounds a residual or a standard error, not the change of the last step; what did not reach it is warned of; all
numbers are at the model's weights when the method is called, where PyHessian keeps those of the constructor for `data`.
"""

import warnings
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from landscape import curvature, linalg
from landscape.checks import integer_in, positive, require
from landscape.interop.cross_check import CrossCheck, cross_check
from landscape.problem import Problem
from landscape.problem.batch import Criterion

__all__ = ["CrossCheck", "cross_check", "hessian"]


class hessian:  # noqa: N801  PyHessian's name
    """Eigenvalues, trace and spectral density of the Hessian of the mean loss, in PyHessian's words.

    Args:
        model: it is never changed; dropout is off and batch norm uses its stored statistics, as in eval mode.
        criterion: (outputs, targets) to the scalar mean loss.
        data: one batch (inputs, targets).
        dataloader: batches that can be read again, weighted by their samples; instead of `data`.
        cuda: there for the signature; the data goes to where the model's parameters are.
    Raises:
        ValueError: unless exactly one of data and dataloader is given.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        data: tuple[Any, Any] | list[Any] | None = None,
        dataloader: Iterable[Any] | None = None,
        cuda: bool = True,  # noqa: ARG002
    ) -> None:
        given = [source for source in (data, dataloader) if source is not None]
        require(len(given) == 1, f"give one of data=(inputs, targets) and dataloader=, got {len(given)} of them")
        self.problem = Problem(model, criterion, [data] if data is not None else given[0])

    def eigenvalues(
        self, maxIter: int = 100, tol: float = 1e-3, top_n: int = 1
    ) -> tuple[list[float], list[list[Tensor]]]:
        """The eigenpairs of largest magnitude, falling in |λ|.

        Args:
            maxIter: products an eigenvalue at most; top_n · maxIter in all.
            tol: a pair is found when |Hv − λv| <= tol |λ|, so that an eigenvalue lies within tol |λ| of λ.
            top_n: how many.
        Returns:
            Eigenvalues, and for each its unit eigenvector as tensors shaped like the parameters that require grad.
        Raises:
            ValueError: if an argument is out of range or the loss is NaN or infinite.
        """
        integer_in("maxIter", maxIter, 1)
        integer_in("top_n", top_n, 1, self.problem.size)
        pairs = linalg.top_eigenpairs(
            curvature.hessian(self.problem), top_n, which="LM", tol=tol, max_matvecs=maxIter * top_n
        )
        missed = int((~pairs.converged).sum())
        if missed:
            worst = float((pairs.residuals / pairs.values.abs()).max())
            _warn(f"{missed} of {top_n} eigenpairs have a residual above tol={tol:g}, the largest {worst:.1e}")
        vectors = [self.problem.layout.unflatten(column) for column in pairs.vectors.T.contiguous()]
        return pairs.values.tolist(), vectors

    def trace(self, maxIter: int = 100, tol: float = 1e-3) -> list[float]:
        """The trace, by XTrace.

        Args:
            maxIter: products at most, at least 4.
            tol: products are added until the standard error is at most tol |trace|.
        Returns:
            [t − s, t + s]: `numpy.mean` of it is the estimate t, half the difference its standard error s.
        Raises:
            ValueError: if an argument is out of range or the loss is NaN or infinite.
        """
        positive("tol", tol)
        found = linalg.trace(curvature.hessian(self.problem), matvecs=maxIter, rtol=tol)
        value, stderr = float(found.value), float(found.stderr)
        if stderr > tol * abs(value):
            _warn(f"the trace {value:.4g} has a standard error of {stderr:.1e}, above tol={tol:g}")
        return [value - stderr, value + stderr]

    def density(self, iter: int = 100, n_v: int = 1) -> tuple[list[list[float]], list[list[float]]]:
        """Nodes and weights of the spectral density by stochastic Lanczos quadrature, fully reorthogonalised.

        Args:
            iter: Lanczos steps a run.
            n_v: runs, each with its own random vector.
        Returns:
            Nodes and weights, n_v lists of `iter` numbers each; a run's weights sum to 1.
        Raises:
            ValueError: if an argument is below 1 or the loss is NaN or infinite.
        """
        integer_in("iter", iter, 1)
        integer_in("n_v", n_v, 1)
        found = linalg.spectral_density(curvature.hessian(self.problem), probes=n_v, steps=iter)
        return found.nodes.tolist(), found.weights.tolist()


def _warn(message: str) -> None:
    warnings.warn(f"{message}; raise maxIter", RuntimeWarning, stacklevel=3)
