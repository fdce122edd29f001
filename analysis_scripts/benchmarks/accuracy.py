"""References that answers are measured against, and what trace estimators need for 1 %."""

from statistics import fmean
from typing import Any

import torch
from contenders import curvlinops_eigenvalues
from setting import Config, Setting, trained, trained_perceptron

import landscape as ls


def reference(setting: Setting) -> dict[str, Any]:
    """Eigenvalues and trace in float64, to a residual of 1e-8 and a stated standard error.

    curvlinops' operator under ARPACK at full precision, in float64 too, says whether they are right.
    """
    exact, config = setting.double(), setting.config
    H = ls.hessian(exact.problem)
    pairs = ls.top_eigenpairs(H, config.k, tol=1e-8)
    total = ls.trace(H, matvecs=config.reference_matvecs)
    peer = torch.tensor(curvlinops_eigenvalues(exact, 0, tol=0.0).values, dtype=torch.float64)
    return {
        "eigenvalues": pairs.values.tolist(),
        "relative_residual": float((pairs.residuals / pairs.values.abs()).max()),
        "difference_from_arpack": float(((peer - pairs.values).abs() / pairs.values.abs()).max()),
        "trace": float(total.value),
        "trace_stderr": float(total.stderr),
    }


def error(question: str, values: list[float], exact: dict[str, Any]) -> float:
    """Largest relative error; for a density the superfluous copies of the leading eigenvalues."""
    if question == "trace":
        return abs(values[0] / exact["trace"] - 1)
    leading = torch.tensor(exact["eigenvalues"], dtype=torch.float64)
    if question == "eigenvalues":
        return float(((torch.tensor(values, dtype=torch.float64) - leading).abs() / leading.abs()).max())
    nodes = torch.tensor(values, dtype=torch.float64)
    return max(0.0, float((nodes.abs() >= (1 - 1e-4) * leading[-1].abs()).sum() - len(leading)))


def products_for_one_percent(config: Config, exact: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Products until the rms error of the trace over seeds is 1 %, on two trained networks."""
    network, perceptron = trained(config), trained_perceptron(config)
    total = float(ls.hessian(perceptron.double().problem).dense().trace())
    return {
        "digits network": _for_one_percent(network, exact["trace"]),
        "digits perceptron": _for_one_percent(perceptron, total),
    }


def _for_one_percent(setting: Setting, exact: float) -> dict[str, Any]:
    """Ours by trial, Hutchinson's from the variance of its samples."""
    H, seeds, trials = ls.hessian(setting.problem, chunk=setting.config.chunk), range(setting.config.trace_seeds), {}
    for budget in setting.config.trace_budgets:
        found = [ls.trace(H, matvecs=budget, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        trials[budget] = fmean((float(one.value) / exact - 1) ** 2 for one in found) ** 0.5
        if trials[budget] <= 0.01:
            break
    plain = ls.trace(H, matvecs=10 * len(seeds), method="hutchinson")
    hutchinson = 10 * len(seeds) * (float(plain.stderr) / (0.01 * abs(exact))) ** 2
    ours = min((budget for budget, rms in trials.items() if rms <= 0.01), default=None)
    return {
        "parameters": setting.size,
        "rms_by_products": {str(budget): rms for budget, rms in trials.items()},
        "seeds": len(seeds),
        "ours": ours,
        "hutchinson": hutchinson,
        "ratio": hutchinson / ours if ours else None,
    }
