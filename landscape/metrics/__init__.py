"""Sharpness metrics: each a function of a `Problem` that gives an `Estimate`.

`METRICS` lists those that `analyze` knows, with the settings it runs them at. To add one, write its function in the
file of its family, say with `@measured(about=...)` how many gradient-times it takes, and name it here. Work that others
do as well (`origin`, `pairs`, `density`: see `shared.py`) it takes as keywords of these names.
"""

from collections.abc import Callable
from functools import partial

from landscape.metrics.average import average_gap
from landscape.metrics.geodesic import geodesic
from landscape.metrics.m_sharpness import m_sharpness
from landscape.metrics.pac_bayes import pac_bayes_sam
from landscape.metrics.renyi import renyi
from landscape.metrics.spectral import adam_sharpness, gradient_norm, lambda_max, lambda_max_over_lambda_5, trace
from landscape.metrics.worst_case import surrogate_gap, worst_case_gap
from landscape.results import Estimate

# all of them together cost about 300 gradient-times: the functions' own defaults are more accurate
METRICS: dict[str, Callable[..., Estimate]] = {
    "gradient_norm": gradient_norm,
    "surrogate_gap": surrogate_gap,
    "worst_case_gap": partial(worst_case_gap, steps=10),
    "worst_case_gap_adaptive": partial(worst_case_gap, geometry="adaptive", rho=0.5, steps=10),
    "worst_case_gap_fisher": partial(worst_case_gap, geometry="fisher", steps=1, max_matvecs=15),
    "worst_case_gap_fisher_diagonal": partial(worst_case_gap, geometry="fisher_diagonal", rho=0.1, eta=1.0, steps=1),
    "m_sharpness": partial(m_sharpness, m=128),
    "average_gap": partial(average_gap, draws=10),
    "average_gap_adaptive": partial(average_gap, geometry="adaptive", rho=0.1, draws=10),
    "lambda_max": lambda_max,
    "lambda_max_over_lambda_5": lambda_max_over_lambda_5,
    "trace": partial(trace, matvecs=24),
    "adam_sharpness": partial(adam_sharpness, matvecs=16),
    "renyi": partial(renyi, probes=3, steps=15),
    "geodesic": partial(geodesic, steps=5),
    "pac_bayes_sam": partial(pac_bayes_sam, steps=10),
}

__all__ = [
    "METRICS",
    "adam_sharpness",
    "average_gap",
    "geodesic",
    "gradient_norm",
    "lambda_max",
    "lambda_max_over_lambda_5",
    "m_sharpness",
    "pac_bayes_sam",
    "renyi",
    "surrogate_gap",
    "trace",
    "worst_case_gap",
]
