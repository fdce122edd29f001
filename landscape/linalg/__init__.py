"""Krylov methods and stochastic estimators on symmetric operators; they know no networks."""

from landscape.linalg.density import spectral_density
from landscape.linalg.diagonal import diagonal
from landscape.linalg.eigen import top_eigenpairs
from landscape.linalg.frobenius import frobenius_norm
from landscape.linalg.spectrum_ends import spectrum_ends
from landscape.linalg.sums import absolute_trace, eigenvalue_count, log_determinant
from landscape.linalg.trace import trace

__all__ = [
    "absolute_trace",
    "diagonal",
    "eigenvalue_count",
    "frobenius_norm",
    "log_determinant",
    "spectral_density",
    "spectrum_ends",
    "top_eigenpairs",
    "trace",
]
