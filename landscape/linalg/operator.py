"""Symmetric linear operators on flat vectors: what curvature code makes and linear algebra uses."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.checks import require
from landscape.processes.space import Space
from landscape.storage.results.shown import Shown


class CurvatureOperator(Shown, ABC):
    """A symmetric (P, P) matrix known by its products. Subclasses give `_product`; an operator never changes.

    Attributes:
        space: the vectors that it takes, of which this process may hold its own entries only.
    """

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device, space: Space | None = None) -> None:
        self.shape = (size, size)
        self.space = Space(size) if space is None else space
        self.dtype = dtype
        self.device = device

    def _facts(self) -> dict[str, Any]:
        shape = f"{self.shape[0]:,} x {self.shape[1]:,}"
        return {"": shape, "dtype": str(self.dtype)[6:], "device": str(self.device), "verified": self.verified}

    @property
    def verified(self) -> float | None:
        """Relative disagreement of a product with differences of the network; None where none has decided."""
        return None

    @property
    def columns(self) -> int:
        """How many columns in one product cost the operator least a column; algorithms that can choose ask for them."""
        return 1

    @property
    def errors(self) -> Tensor | None:
        """How far the columns of the last product may be off, (K,), beyond rounding; None where they are exact."""
        return None

    @abstractmethod
    def _product(self, block: Tensor) -> Tensor:
        """The operator times a block of vectors: (P, K) to (P, K)."""

    def matvec(self, vector: Tensor) -> Tensor:
        """Product with one vector, (P,) to (P,). Raises ValueError on another shape, dtype or device."""
        return self._product(self._checked(vector, 1)[:, None])[:, 0]

    def matmat(self, block: Tensor) -> Tensor:
        """Product with a block of vectors in one pass over the data, (P, K) to (P, K). Raises as `matvec`."""
        return self._product(self._checked(block, 2))

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.matvec(other) if getattr(other, "ndim", 2) == 1 else self.matmat(other)

    def dense(self, *, chunk: int = 64) -> Tensor:
        """The matrix itself, (P, P), from P products, `chunk` columns a pass. For small P: memory grows as P².

        Where entries of vectors are dealt out to processes, rows and columns are in the order of the processes.
        """
        size = self.shape[0]
        matrix = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        for start in range(0, size, chunk):
            stop = min(start + chunk, size)
            columns = self.space.axes(start, stop).to(self.device, self.dtype)
            matrix[:, start:stop] = self.space.whole(self._product(columns))
        return matrix

    def to_scipy(self) -> Any:
        """The same as a scipy.sparse.linalg.LinearOperator: takes and gives NumPy arrays on the CPU, of any strides."""
        from scipy.sparse.linalg import LinearOperator

        require(not self.space.dealt_out, "scipy takes whole vectors, got some dealt out to processes")

        kind = torch.empty(0, dtype=self.dtype, device="cpu").numpy().dtype

        def product(array: Any) -> Any:
            if np.iscomplexobj(array):
                return product(array.real) + 1j * product(array.imag)
            own = np.array(array, dtype=kind, order="C")  # torch takes no negative strides, nor read-only memory
            if own.size == 0:
                return own
            block = torch.from_numpy(own).to(self.device).reshape(self.shape[0], -1)
            return self._product(block).cpu().numpy().reshape(own.shape)

        return LinearOperator(self.shape, matvec=product, rmatvec=product, matmat=product, rmatmat=product, dtype=kind)

    def _checked(self, block: Tensor, axes: int) -> Tensor:
        require(
            isinstance(block, Tensor),
            f"expected a tensor of {axes} axes, got {type(block).__name__}; use torch.as_tensor",
        )
        shape = "(P,)" if axes == 1 else "(P, K)"
        require(
            block.ndim == axes and block.shape[0] == self.space.own and (block.numel() > 0 or self.space.dealt_out),
            f"expected {shape} with P = {self.space.own}, got {tuple(block.shape)}",
        )
        require(
            block.dtype == self.dtype and block.device == self.device,
            f"expected {self.dtype} on {self.device}, got {block.dtype} on {block.device}; use .to()",
        )
        return block


def whole_vectors(what: str, operator: CurvatureOperator) -> None:
    """Refuse an operator on vectors that are dealt out to processes."""
    require(not operator.space.dealt_out, f"{what} needs whole vectors, got those of a sharded model; gather it first")


class DerivedOperator(CurvatureOperator):
    """An operator made from another one of the same size."""

    def __init__(self, operator: CurvatureOperator) -> None:
        super().__init__(operator.shape[0], operator.dtype, operator.device, operator.space)
        self.operator = operator

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "of": type(self.operator).__name__}

    @property
    def verified(self) -> float | None:
        return self.operator.verified

    @property
    def columns(self) -> int:
        return self.operator.columns

    @property
    def errors(self) -> Tensor | None:
        return self.operator.errors


class MatrixOperator(CurvatureOperator):
    """A symmetric matrix (P, P) as an operator, for tests and examples.

    Raises:
        ValueError: if the matrix is not square, floating, finite and symmetric.
    """

    def __init__(self, matrix: Tensor) -> None:
        require(
            matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1], f"matrix must be square, got {tuple(matrix.shape)}"
        )
        require(matrix.is_floating_point(), f"matrix must be floating, got {matrix.dtype}; use .double()")
        require(bool(matrix.isfinite().all()), "matrix must be finite, got NaN or infinite entries")
        skew = (matrix - matrix.T).abs().sum()
        # 1e-5: what sums of 10⁴ float32 numbers round to, eps √10⁴
        require(bool(skew <= 1e-5 * matrix.abs().sum()), "matrix must be symmetric; use (A + A.T) / 2")
        super().__init__(matrix.shape[0], matrix.dtype, matrix.device)
        self.matrix = matrix.detach().clone()

    def _product(self, block: Tensor) -> Tensor:
        return self.matrix @ block
