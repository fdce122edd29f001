"""The loss along a line as its gradient and curvature alone would have it: L + x gᵀd + x²/2 dᵀHd.

Where the true loss leaves this parabola, third and higher derivatives matter; at a minimum the slope is 0.
"""

from dataclasses import dataclass

from torch import Tensor

from landscape.checks import vector_like
from landscape.curvature import hessian
from landscape.problem import Problem
from landscape.storage.results import Result


@dataclass(frozen=True, eq=False, repr=False)
class QuadraticModel(Result):
    """A parabola in x; call it as a function."""

    loss: Tensor  # (), L(w)
    slope: Tensor  # (), gᵀd
    curvature: Tensor  # (), dᵀHd

    def _facts(self) -> dict[str, Tensor]:
        return {"loss": self.loss, "slope": self.slope, "curvature": self.curvature}

    def __call__(self, x: Tensor) -> Tensor:
        """Its value at x (n,), (n,) float64."""
        x = x.double()
        return self.loss + x * self.slope + x**2 / 2 * self.curvature


def quadratic_model(problem: Problem, direction: Tensor) -> QuadraticModel:
    """Second-order Taylor polynomial of x ↦ L(w + x d) at x = 0: one gradient and one Hessian product.

    Args:
        problem: the scalar function. Under batch_norm="recompute" the statistics of w are held fixed, while
            `slice_1d` recomputes them at every point.
        direction: d, (P,).
    Returns:
        QuadraticModel, for `plot_slice_1d(slice, model=...)`.
    Raises:
        ValueError: if the direction does not fit, or the loss is NaN or infinite.
    """
    space = problem.space
    with space.agreed():
        vector_like("direction", direction, problem.vector())
    loss, gradient = problem.loss_and_gradient()
    d = direction.double()
    product = (hessian(problem) @ direction).double()
    return QuadraticModel(
        *(value.cpu() for value in (loss.double(), space.inner(gradient.double(), d), space.inner(product, d)))
    )
