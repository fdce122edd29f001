"""A − a I: the eigenvalues moved, the eigenvectors as they were."""

from torch import Tensor

from landscape.linalg.operator import CurvatureOperator, DerivedOperator


class Shifted(DerivedOperator):
    """A − a I."""

    def __init__(self, operator: CurvatureOperator, shift: Tensor | float) -> None:
        super().__init__(operator)
        self.shift = shift

    def _product(self, block: Tensor) -> Tensor:
        return self.operator.matmat(block) - self.shift * block
