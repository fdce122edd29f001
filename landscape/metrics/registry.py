"""`METRICS`: the metrics that `analyze` knows, each a record with the settings it runs at.

To add one, write its function in the file of its family, decorated with `@measured`, and name it here with its cost
in gradient-times and what it needs; or from outside, METRICS["mine"] = Metric(function, cost=..., needs=...).
"""

from math import inf

from landscape.metrics import spectral
from landscape.metrics.adam import PRODUCT, adam_sharpness
from landscape.metrics.alignment import eigenvector_alignment, gradient_cosine
from landscape.metrics.ascent import STEPS
from landscape.metrics.average import average_gap
from landscape.metrics.critical_sharpness import critical_cost, critical_sharpness
from landscape.metrics.flatness import fisher_rao, relative_flatness
from landscape.metrics.geodesic import geodesic
from landscape.metrics.m_sharpness import m_sharpness, m_sharpness_cost
from landscape.metrics.metric import Metric
from landscape.metrics.norms import frobenius_norms, spectral_norms, weight_norm
from landscape.metrics.ntk import ntk_condition_number, ntk_cost
from landscape.metrics.pac_bayes import pac_bayes_sam
from landscape.metrics.renyi import renyi
from landscape.metrics.worst_case import climb_cost, surrogate_gap, worst_case_cost, worst_case_gap
from landscape.problem.cost import FORWARD, GAUSS_NEWTON, GRADIENT, HESSIAN

ORIGIN, PAIRS, DENSITY = ("origin",), ("pairs",), ("density",)  # what a metric needs
worst = Metric(worst_case_gap, cost=worst_case_cost, needs=ORIGIN)
mean_worst = Metric(m_sharpness, {"m": 128}, m_sharpness_cost)
# the setting of Andriushchenko et al. 2023: 1,024 points in subsets of 128, normalised logits, radii from their grids,
# l2 .25-2 and linf .001-.008; their 20 steps are at most 200 here, as in every ascent
adaptive_worst = mean_worst.at(points=1024, geometry="adaptive", normalize_logits=True, steps=STEPS)
average = Metric(average_gap, {"draws": 10}, lambda draws, **_: FORWARD * (1 + draws))
# as in the density that analyze shares
entropy = Metric(renyi, {"probes": spectral.PROBES, "steps": spectral.STEPS, "leading": True}, needs=DENSITY)

# Radii, with their sources: .05 of SAM on CIFAR-10 (Foret et al. 2021); adaptive .5 of ASAM (Kwon et al. 2021), and
# filter-wise SAM's .05 by our choice; .1 with eta 1 of Fisher SAM (Kim et al. 2022), whose one step is taken in both
# Fisher balls, in the exact one at .05 by our choice; linf .001 and the adaptive average's .1 out of the grids of
# Andriushchenko et al. 2023, as is m 128. Products, draws, probes and max_matvecs are our choice: what keeps the whole
# set below 500 gradient-times on fitted networks, with errors that the results state.
METRICS: dict[str, Metric] = {
    "gradient_norm": Metric(spectral.gradient_norm, needs=ORIGIN),
    "surrogate_gap": Metric(surrogate_gap, cost=FORWARD, needs=ORIGIN),
    "gradient_cosine": Metric(gradient_cosine, cost=GRADIENT, needs=ORIGIN),
    "critical_sharpness": Metric(critical_sharpness, cost=critical_cost, needs=ORIGIN),
    "worst_case_gap": worst,
    "worst_case_gap_linf": worst.at(p=inf, rho=0.001),
    "worst_case_gap_adaptive": worst.at(geometry="adaptive", rho=0.5),
    "worst_case_gap_adaptive_filter": worst.at(geometry="adaptive_filter"),
    "worst_case_gap_fisher": worst.at(geometry="fisher", steps=1, max_matvecs=15),
    "worst_case_gap_fisher_diagonal": worst.at(geometry="fisher_diagonal", rho=0.1, eta=1.0, steps=1),
    "worst_case_gap_normalized_l2": adaptive_worst.at(rho=0.5),
    "worst_case_gap_normalized_linf": adaptive_worst.at(rho=0.002, p=inf),
    "m_sharpness": mean_worst,
    "average_gap": average,
    "average_gap_adaptive": average.at(geometry="adaptive", rho=0.1),
    "lambda_max": Metric(spectral.lambda_max, needs=PAIRS),
    "lambda_max_over_lambda_5": Metric(spectral.lambda_max_over_lambda_5, needs=PAIRS),
    "eigenvector_alignment": Metric(eigenvector_alignment, needs=(*ORIGIN, *PAIRS)),
    "trace": Metric(spectral.trace, {"matvecs": 20}, lambda matvecs, **_: GRADIENT + HESSIAN * matvecs),
    "frobenius_norm": Metric(spectral.frobenius_norm, needs=DENSITY),
    "eigenvalues_above": Metric(spectral.eigenvalues_above, needs=DENSITY),
    "renyi": entropy,
    "renyi_half": entropy.at(order=0.5),
    "renyi_three_halves": entropy.at(order=1.5),
    "adam_sharpness": Metric(
        adam_sharpness, {"matvecs": 16}, lambda operator, matvecs, **_: GRADIENT + PRODUCT[operator] * matvecs
    ),
    "lambda_max_ggn": Metric(spectral.lambda_max_ggn, cost=GRADIENT + 15 * GAUSS_NEWTON),
    "trace_ggn": Metric(spectral.trace_ggn, {"matvecs": 16}, lambda matvecs, **_: GRADIENT + GAUSS_NEWTON * matvecs),
    "fisher_rao": Metric(fisher_rao, cost=GRADIENT + GAUSS_NEWTON),
    "relative_flatness": Metric(relative_flatness, {"draws": 6}, lambda draws, **_: GRADIENT + HESSIAN * draws),
    "geodesic": Metric(geodesic, cost=lambda steps, restarts, **_: climb_cost(steps, restarts), needs=ORIGIN),
    "pac_bayes_sam": Metric(pac_bayes_sam, needs=(*ORIGIN, "worst_case_gap")),
    "weight_norm": Metric(weight_norm),
    "frobenius_norms": Metric(frobenius_norms),
    "spectral_norms": Metric(spectral_norms, {"convolution": "matrix"}),
    "ntk_condition_number": Metric(ntk_condition_number, cost=ntk_cost),
}
