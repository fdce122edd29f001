"""Sharpness metrics: each a function of a `Problem` that gives an `Estimate`.

`METRICS` lists those that `analyze` knows, see `registry`. What is not listed needs more than a problem: classes
(`margin`, `pac_bayes_gaussian`), the optimiser (`preconditioned_sharpness`), ReLU networks (`path_norm`,
`active_neurons`), the weights before training (`distance_from_initialisation`), or gives more than a number (curves,
values by layer).
"""

from landscape.metrics.activations import Activations, activations, active_neurons
from landscape.metrics.adam import adam_sharpness
from landscape.metrics.alignment import eigenvector_alignment, gradient_cosine
from landscape.metrics.attention import attention_weights
from landscape.metrics.average import average_gap
from landscape.metrics.corruption import adversarial_corruption, random_corruption
from landscape.metrics.critical_sharpness import critical_sharpness
from landscape.metrics.flatness import fisher_rao, relative_flatness
from landscape.metrics.geodesic import geodesic
from landscape.metrics.m_sharpness import m_sharpness, m_sharpness_curve
from landscape.metrics.margins import margin
from landscape.metrics.metric import Metric
from landscape.metrics.norms import distance_from_initialisation, frobenius_norms, spectral_norms, weight_norm
from landscape.metrics.ntk import ntk_condition_number
from landscape.metrics.pac_bayes import pac_bayes_sam
from landscape.metrics.pac_bayes_gaussian import pac_bayes_gaussian
from landscape.metrics.path_norm import path_norm
from landscape.metrics.preconditioned import preconditioned_sharpness
from landscape.metrics.registry import METRICS
from landscape.metrics.renyi import renyi
from landscape.metrics.spectral import (
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

__all__ = [
    "METRICS",
    "Activations",
    "Metric",
    "activations",
    "active_neurons",
    "adam_sharpness",
    "adversarial_corruption",
    "attention_weights",
    "average_gap",
    "critical_sharpness",
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
    "pac_bayes_gaussian",
    "pac_bayes_sam",
    "path_norm",
    "preconditioned_sharpness",
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
