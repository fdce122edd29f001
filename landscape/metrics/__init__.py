"""Sharpness metrics: each a function of a `Problem` that gives an `Estimate`.

`METRICS` lists those that `analyze` knows, with the settings it runs them at. To add one, write its function in the
file of its family, say with `@measured(about=...)` how many gradient-times it takes, and name it here. Work that others
do as well (`origin`, `pairs`, `density`: see `shared.py`) it takes as keywords of these names.

What is not listed needs more than a problem: classes (`margin`), ReLU networks (`path_norm`, `active_neurons`), the
weights before training (`distance_from_initialisation`), or gives more than a number (curves, values by layer).
"""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from landscape.metrics.activations import Activations, activations, active_neurons
from landscape.metrics.adam import adam_sharpness
from landscape.metrics.alignment import eigenvector_alignment, gradient_cosine
from landscape.metrics.average import average_gap
from landscape.metrics.corruption import adversarial_corruption, random_corruption
from landscape.metrics.flatness import fisher_rao, relative_flatness
from landscape.metrics.geodesic import geodesic
from landscape.metrics.m_sharpness import m_sharpness, m_sharpness_curve
from landscape.metrics.margins import margin
from landscape.metrics.norms import distance_from_initialisation, frobenius_norms, spectral_norms, weight_norm
from landscape.metrics.ntk import ntk_condition_number
from landscape.metrics.pac_bayes import pac_bayes_sam
from landscape.metrics.path_norm import path_norm
from landscape.metrics.renyi import renyi
from landscape.metrics.spectral import (
    PROBES,
    STEPS,
    eigenvalues_above,
    frobenius_norm,
    gradient_norm,
    lambda_max,
    lambda_max_ggn,
    lambda_max_over_lambda_5,
    leading_pairs,
    trace,
    trace_ggn,
    whole_density,
)
from landscape.metrics.worst_case import surrogate_gap, worst_case_gap
from landscape.storage.results import Estimate

# the setting of Andriushchenko et al. 2023 but for fewer steps: 1,024 points in subsets of 128, normalised logits
adaptive_worst_case = partial(m_sharpness, m=128, points=1024, geometry="adaptive", normalize_logits=True, steps=10)
few: dict[str, Any] = {"probes": PROBES, "steps": STEPS}  # as in the density that analyze shares

METRICS: dict[str, Callable[..., Estimate]] = {
    "gradient_norm": gradient_norm,
    "surrogate_gap": surrogate_gap,
    "gradient_cosine": gradient_cosine,
    "worst_case_gap": partial(worst_case_gap, steps=10),
    "worst_case_gap_linf": partial(worst_case_gap, p=inf, rho=0.001, steps=5),
    "worst_case_gap_adaptive": partial(worst_case_gap, geometry="adaptive", rho=0.5, steps=10),
    "worst_case_gap_adaptive_filter": partial(worst_case_gap, geometry="adaptive_filter", steps=5),
    "worst_case_gap_fisher": partial(worst_case_gap, geometry="fisher", steps=1, max_matvecs=15),
    "worst_case_gap_fisher_diagonal": partial(worst_case_gap, geometry="fisher_diagonal", rho=0.1, eta=1.0, steps=1),
    "worst_case_gap_normalized_l2": partial(adaptive_worst_case, rho=0.5),
    "worst_case_gap_normalized_linf": partial(adaptive_worst_case, rho=0.002, p=inf),
    "m_sharpness": partial(m_sharpness, m=128),
    "average_gap": partial(average_gap, draws=10),
    "average_gap_adaptive": partial(average_gap, geometry="adaptive", rho=0.1, draws=10),
    "lambda_max": lambda_max,
    "lambda_max_over_lambda_5": lambda_max_over_lambda_5,
    "eigenvector_alignment": eigenvector_alignment,
    "trace": partial(trace, matvecs=20),
    "frobenius_norm": frobenius_norm,
    "eigenvalues_above": eigenvalues_above,
    "renyi": partial(renyi, **few),
    "renyi_half": partial(renyi, order=0.5, **few),
    "renyi_three_halves": partial(renyi, order=1.5, **few),
    "adam_sharpness": partial(adam_sharpness, matvecs=16),
    "lambda_max_ggn": lambda_max_ggn,
    "trace_ggn": partial(trace_ggn, matvecs=16),
    "fisher_rao": fisher_rao,
    "relative_flatness": partial(relative_flatness, draws=6),
    "geodesic": partial(geodesic, steps=5),
    "pac_bayes_sam": partial(pac_bayes_sam, steps=10),
    "weight_norm": weight_norm,
    "frobenius_norms": frobenius_norms,
    "spectral_norms": partial(spectral_norms, convolution="matrix"),
    "ntk_condition_number": ntk_condition_number,
}

__all__ = [
    "METRICS",
    "Activations",
    "activations",
    "active_neurons",
    "adam_sharpness",
    "adversarial_corruption",
    "average_gap",
    "distance_from_initialisation",
    "eigenvalues_above",
    "eigenvector_alignment",
    "fisher_rao",
    "frobenius_norm",
    "frobenius_norms",
    "geodesic",
    "gradient_cosine",
    "gradient_norm",
    "lambda_max",
    "lambda_max_ggn",
    "lambda_max_over_lambda_5",
    "leading_pairs",
    "m_sharpness",
    "m_sharpness_curve",
    "margin",
    "ntk_condition_number",
    "pac_bayes_sam",
    "path_norm",
    "random_corruption",
    "relative_flatness",
    "renyi",
    "spectral_norms",
    "surrogate_gap",
    "trace",
    "trace_ggn",
    "weight_norm",
    "whole_density",
    "worst_case_gap",
]
