"""Fisher matrices, Jᵀ C J with C from output gradients r of single samples: C u = Σᵢ uᵢ rᵢ (rᵢ · uᵢ) / Σᵢ uᵢ.

"exact" takes the expectation over the network's own predictions; with the criterion read as its own negative
log-likelihood that is the Gauss-Newton matrix. "sampled" draws one target per sample from the predictions, an unbiased
estimate of it. "empirical" uses the targets of the data, which is another matrix (Kunstner et al. 2019): in the model
N(w, 1) with datum 0 the Fisher matrix is 1 and the empirical one w².
Source: Martens 2020, "New insights and perspectives on the natural gradient method", sections 5 and 9.
"""

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.batches import rows
from landscape.checks import one_of, require
from landscape.curvature.ggn import GaussNewton, OutputProduct
from landscape.isolation import random_source
from landscape.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.program import Batch, Criterion, criterion_loss, gradient_of

Residual = Callable[[Tensor, Any, dict[str, Any], torch.Generator], tuple[Tensor, Tensor]]


def fisher(
    problem: Problem,
    kind: str = "exact",
    *,
    generator: torch.Generator | None = None,
    w: Tensor | None = None,
    **settings: Any,
) -> CurvatureOperator:
    """Fisher matrix of the mean loss as an operator (P, P).

    Args:
        problem: the scalar function; its data is read at each product, not here.
        kind: "exact" (equal to `ggn`), "sampled" (targets drawn once per operator) or "empirical" (mean over samples of
            g gᵀ, g the gradient of the criterion on that sample alone).
        generator: for "sampled"; default seed 0.
        w: where, (P,); default the model's own weights at the time of this call.
        settings: memory, chunk, micro_batch, tf32 as `hessian` has them.
    Raises:
        ValueError: if kind is unknown, or "sampled" meets a criterion other than cross entropy, MSE, BCE with logits.
    """
    one_of("kind", kind, ("exact", "sampled", "empirical"))
    if kind == "exact":
        return GaussNewton(problem, w, **settings)
    if kind == "empirical":
        return EmpiricalFisher(problem, w, **settings)
    return SampledFisher(problem, w, generator, **settings)


class EmpiricalFisher(GaussNewton):
    """Mean over samples of g gᵀ."""

    def _output_curvature(self, batch: Batch, outputs: Tensor) -> OutputProduct:
        targets = batch.targets
        require(
            isinstance(targets, Tensor),
            f"the empirical Fisher needs targets in one tensor, got {type(targets).__name__}",
        )
        units = self._units(batch)
        valid = units > 0  # the criterion's mean over no unit would be NaN
        z, t = outputs.detach()[valid], targets[valid]
        slopes = torch.zeros_like(outputs)
        slopes[valid] = _single_gradients(lambda z, t: criterion_loss(self.problem.criterion, z, t, batch.index), z, t)
        weights = (units / units.sum()).to(outputs)
        return lambda u: _rank_one_sum(slopes, weights, u)

    def _units(self, batch: Batch) -> Tensor:
        """Units in each sample, (B,)."""
        count = len(batch.targets)
        if self.problem.counts_samples:
            return torch.ones(count, dtype=torch.float64, device=batch.targets.device)
        singles = [(rows(batch.inputs, i, i + 1), batch.targets[i : i + 1]) for i in range(count)]
        units = [float(self.problem.weight(*single)) for single in singles]
        return torch.tensor(units, dtype=torch.float64, device=batch.targets.device)


class SampledFisher(GaussNewton):
    """Monte Carlo estimate of the exact Fisher matrix with one target per sample."""

    def __init__(self, problem: Problem, w: Tensor | None, generator: torch.Generator | None, **settings: Any) -> None:
        super().__init__(problem, w, **settings)
        self._residual, self._settings = _likelihood(problem.criterion)
        source = random_source(generator)
        self._seed = int(torch.randint(2**62, (), generator=source, device=source.device))

    def _output_curvature(self, batch: Batch, outputs: Tensor) -> OutputProduct:
        # one seed per batch: the same targets at every product
        source = torch.Generator().manual_seed(self._seed + batch.index)
        slopes, weights = self._residual(outputs.detach(), batch.targets, self._settings, source)
        return lambda u: _rank_one_sum(slopes, weights, u)


def _single_gradients(loss: Callable[[Tensor, Tensor], Tensor], z: Tensor, t: Tensor) -> Tensor:
    """∂ loss(z_i, t_i) / ∂ z_i for every sample i on its own, at once by vmap; shaped like z."""

    def single(one: Tensor, target: Tensor) -> Tensor:
        return loss(one[None], target[None])

    try:
        return torch.func.vmap(torch.func.grad(single))(z, t)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError):  # a criterion that looks at values or draws numbers: one sample after another
        z = z.clone().requires_grad_()
        return gradient_of(torch.stack([loss(z[i : i + 1], t[i : i + 1]) for i in range(len(z))]).sum(), z)


def _rank_one_sum(slopes: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Σᵢ weightᵢ slopeᵢ (slopeᵢ · uᵢ), the samples along axis 0."""
    along = (slopes * u).flatten(1).sum(1) if u.ndim > 1 else slopes * u
    return slopes * (weights * along).view(-1, *[1] * (u.ndim - 1))


def _likelihood(criterion: Criterion) -> tuple[Residual, dict[str, Any]]:
    """How to draw an output gradient for this criterion, and the criterion's settings."""
    function, settings = (criterion.func, criterion.keywords) if isinstance(criterion, partial) else (criterion, {})
    if isinstance(criterion, nn.Module):
        settings = {key: getattr(criterion, key, None) for key in ("weight", "pos_weight", "ignore_index", "reduction")}
    known: list[tuple[type[nn.Module], Any, Residual]] = [
        (nn.CrossEntropyLoss, F.cross_entropy, _categorical),
        (nn.MSELoss, F.mse_loss, _gaussian),
        (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits, _bernoulli),
    ]
    for module, plain, residual in known:
        if isinstance(criterion, module) or function is plain:
            weighted = [key for key in ("weight", "pos_weight") if settings.get(key) is not None]
            require(not weighted, f"a sampled Fisher matrix needs unweighted classes, got {weighted}; use kind='exact'")
            reduction = settings.get("reduction", "mean")
            require(reduction == "mean", f"a sampled Fisher matrix needs reduction='mean', got {reduction!r}")
            return residual, settings
    raise ValueError(
        f"a sampled Fisher matrix needs cross entropy, MSE or BCE with logits, got {criterion!r}; use kind='exact'"
    )


def _categorical(z: Tensor, targets: Any, settings: dict[str, Any], source: torch.Generator) -> tuple[Tensor, Tensor]:
    """r = softmax(z) − onehot(y), y ~ softmax(z); label smoothing adds a constant, which curvature ignores."""
    require(
        z.ndim == 2,
        f"a sampled Fisher matrix of cross entropy needs outputs (B, C), got {tuple(z.shape)}; flatten in forward=",
    )
    p = z.softmax(1)
    drawn = torch.multinomial(p.double().cpu(), 1, generator=source)[:, 0].to(z.device)
    valid = torch.ones(len(z), dtype=z.dtype, device=z.device)
    if not targets.is_floating_point():
        valid = (targets != settings.get("ignore_index", -100)).to(z)
    return p - F.one_hot(drawn, z.shape[1]).to(z), valid / valid.sum()


def _gaussian(z: Tensor, targets: Any, settings: dict[str, Any], source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean squared error over D entries is the negative log-likelihood of N(z, D/2): r = sqrt(2/D) ε."""
    noise = torch.randn(z.shape, generator=source, dtype=torch.float64).to(z)
    return noise * sqrt(2 * len(z) / z.numel()), _equal_weights(z)


def _bernoulli(z: Tensor, targets: Any, settings: dict[str, Any], source: torch.Generator) -> tuple[Tensor, Tensor]:
    """r = (σ(z) − y) / sqrt(D), y ~ Bernoulli(σ(z)): the mean over D independent entries weighs each by 1/D."""
    p = z.sigmoid()
    drawn = torch.bernoulli(p.double().cpu(), generator=source).to(z)
    return (p - drawn) * sqrt(len(z) / z.numel()), _equal_weights(z)


def _equal_weights(z: Tensor) -> Tensor:
    return torch.full((len(z),), 1 / len(z), dtype=z.dtype, device=z.device)
