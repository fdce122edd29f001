"""Krylov methods and stochastic estimators on symmetric operators; they know no networks."""

from landscape.linalg.density import spectral_density
from landscape.linalg.diagonal import diagonal
from landscape.linalg.eigen import top_eigenpairs
from landscape.linalg.trace import trace

__all__ = ["diagonal", "spectral_density", "top_eigenpairs", "trace"]
