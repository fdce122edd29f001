"""Krylov methods and stochastic estimators on symmetric operators; they know no networks."""
