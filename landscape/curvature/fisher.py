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

from landscape.checks import integer_in, one_of, require
from landscape.curvature.ggn import OutputProduct, criterion_curvature, gauss_newton
from landscape.curvature.output_pieces import in_pieces, rank_one_in_pieces
from landscape.curvature.over_data import OperatorOverData
from landscape.problem import Problem
from landscape.problem.batch import Batch, Criterion, criterion_loss, gradient_of
from landscape.problem.hidden_states import HiddenStates, InPieces
from landscape.problem.traits import BatchError
from landscape.side_effects import random_source

APART = 2**40  # seeds of one batch's samples, from one to the next
Residual = Callable[[Tensor, Any, dict[str, Any], torch.Generator], OutputProduct]


def fisher(
    problem: Problem,
    kind: str = "exact",
    *,
    generator: torch.Generator | None = None,
    samples: int = 1,
    likelihood: str | None = None,
    w: Tensor | None = None,
    **settings: Any,
) -> OperatorOverData:
    """Fisher matrix of the mean loss as an operator (P, P).

    Args:
        problem: the scalar function; its data is read at each product, not here.
        kind: "exact" (equal to `ggn`), "sampled" (targets drawn once per operator) or "empirical" (mean over samples of
            g gᵀ, g the gradient of the criterion on that sample alone: a sample is a row of the batch, so that of a
            sequence g is the mean over its tokens; libraries that take each token for a sample give another matrix).
        generator: for "sampled"; default seed 0.
        samples: of "sampled": targets drawn for each output, whose matrices are averaged.
        likelihood: of "sampled": "categorical" | "gaussian" | "bernoulli", what the criterion is the mean negative
            log-likelihood of; default read from it. Classes run along axis 1, as torch has them, or along the last one
            where the targets' shape says so; every token or pixel that counts is a draw of its own.
        w: where, (P,); default the model's own weights at the time of this call.
        settings: mode, memory, chunk, micro_batch, tf32, verify as `ggn` has them.
    Raises:
        ValueError: if kind is unknown, or "sampled" meets a criterion other than cross entropy, MSE, BCE with logits.
    """
    one_of("kind", kind, ("exact", "sampled", "empirical"))
    source = random_source(generator)
    if kind == "exact":
        return gauss_newton(problem, "exact Fisher", criterion_curvature, w, exact=True, **settings)
    if kind == "empirical":
        return gauss_newton(problem, "empirical Fisher", partial(_empirical, problem), w, **settings)
    integer_in("samples", samples, 1)
    residual, own = _likelihood(problem.criterion, likelihood)
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))

    sampled = partial(_sampled, residual=residual, settings=own, seed=seed, samples=samples)
    return gauss_newton(problem, "sampled Fisher", sampled, w, **settings)


def _sampled(
    batch: Batch,
    outputs: Tensor | HiddenStates,
    *,
    residual: Residual,
    settings: dict[str, Any],
    seed: int,
    samples: int,
) -> OutputProduct:
    def drawn() -> Callable[[Batch, Tensor], OutputProduct]:
        """One seed per batch: the same targets at every product, for pieces one after another those of the whole."""
        sources = [torch.Generator(device="cpu").manual_seed(seed + batch.index + i * APART) for i in range(samples)]

        def curvature(piece: Batch, z: Tensor) -> OutputProduct:
            parts = [residual(z.detach(), piece.targets, settings, source) for source in sources]
            return lambda u: sum((part(u) for part in parts[1:]), parts[0](u)) / samples

        return curvature

    if isinstance(outputs, HiddenStates):

        def product(u: Tensor) -> Tensor:
            return in_pieces(batch, outputs, drawn())(u)

        return product
    return drawn()(batch, outputs)


def _empirical(problem: Problem, batch: Batch, outputs: Tensor | HiddenStates) -> OutputProduct:
    targets = batch.targets
    if not isinstance(targets, Tensor):
        raise BatchError(f"the empirical Fisher needs targets in one tensor, got {type(targets).__name__}")
    units = _units(problem, batch)
    if isinstance(outputs, HiddenStates):
        return rank_one_in_pieces(batch, outputs, units)
    valid = units > 0  # the criterion's mean over no unit would be NaN
    z, t = outputs.detach()[valid], targets[valid]
    weights = (units / units.sum()).to(outputs)
    slopes = torch.zeros_like(outputs)
    slopes[valid], losses = _single_gradients(batch, z, t)
    whole, mean = float(batch.criterion_of(outputs.detach())), float(weights[valid] @ losses.to(weights))
    size = max(abs(whole), float(losses.abs().max()))
    if abs(whole - mean) > torch.finfo(outputs.dtype).eps ** 0.5 * size:
        raise BatchError(
            f"batch {batch.index}: the loss is {whole:.6g}, the mean of its samples' own losses {mean:.6g}: the "
            "criterion couples the samples or draws random numbers; an empirical Fisher matrix has no meaning there"
        )
    return lambda u: _rank_one_sum(slopes, weights, u)


def _units(problem: Problem, batch: Batch) -> Tensor:
    """Units in each sample, (B,)."""
    if problem.reader.counts_samples:
        return problem.reader.sample_units(batch.targets)
    singles = (batch.rows(i, i + 1, 0.0) for i in range(len(batch.targets)))
    units = [float(problem.weight(single.inputs, single.targets)) for single in singles]
    return torch.tensor(units, dtype=torch.float64, device=batch.targets.device)


def _single_gradients(batch: Batch, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """∂ loss(z_i, t_i) / ∂ z_i for every sample i on its own, at once by vmap, shaped like z; and the losses, (n,)."""

    def single(one: Tensor, target: Tensor) -> Tensor:
        return criterion_loss(batch.network.criterion, one[None], target[None], batch.index)

    try:
        return torch.func.vmap(torch.func.grad_and_value(single))(z, t)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError):  # a criterion that looks at values or draws numbers: one sample after another
        z = z.clone().requires_grad_()
        losses = torch.stack([single(z[i], t[i]) for i in range(len(z))])
        return gradient_of(losses.sum(), z), losses.detach()


def _rank_one_sum(slopes: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Σᵢ weightᵢ slopeᵢ (slopeᵢ · uᵢ), the samples along axis 0."""
    along = (slopes * u).flatten(1).sum(1) if u.ndim > 1 else slopes * u
    return slopes * (weights * along).view(-1, *[1] * (u.ndim - 1))


def _likelihood(criterion: Criterion, declared: str | None) -> tuple[Residual, dict[str, Any]]:
    """How to draw an output gradient for this criterion, and the criterion's settings."""
    criterion = criterion.criterion if isinstance(criterion, InPieces) else criterion
    by_name = {"categorical": _categorical, "gaussian": _gaussian, "bernoulli": _bernoulli}
    if declared is not None:
        one_of("likelihood", declared, tuple(by_name))
        return by_name[declared], {}
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
        f"a sampled Fisher matrix needs cross entropy, MSE or BCE with logits, got {criterion!r}; say what it is by "
        "likelihood=, or use kind='exact'"
    )


def _categorical(z: Tensor, targets: Any, settings: dict[str, Any], source: torch.Generator) -> OutputProduct:
    """r = softmax(z) − onehot(y), y ~ softmax(z); label smoothing adds a constant, which curvature ignores."""
    last = z.ndim > 2 and isinstance(targets, Tensor) and targets.shape == z.shape[:-1] != z[:, 0].shape
    axis = z.ndim - 1 if last else min(1, z.ndim - 1)
    rows = z.movedim(axis, -1)  # (B, ..., C)
    p = rows.reshape(-1, rows.shape[-1]).softmax(1)  # (units, C)
    levels = p.double().cumsum(1)
    number = torch.rand(len(p), 1, generator=source, dtype=torch.float64, device="cpu").to(z.device)
    drawn = torch.searchsorted(levels, number * levels[:, -1:], right=True)[:, 0].clamp(max=p.shape[1] - 1)
    valid = torch.ones(len(p), dtype=z.dtype, device=z.device)
    if isinstance(targets, Tensor) and not targets.is_floating_point() and targets.numel() == len(p):
        ignored = settings.get("ignore_index", -100)
        valid = (targets.reshape(-1) != (-100 if ignored is None else ignored)).to(z)
    slopes = p.scatter_add(1, drawn[:, None], -p.new_ones(len(p), 1))
    weights = valid / valid.sum()

    def product(u: Tensor) -> Tensor:
        moved = u.movedim(axis, -1)
        return _rank_one_sum(slopes, weights, moved.reshape(slopes.shape)).view(rows.shape).movedim(-1, axis)

    return product


def _gaussian(z: Tensor, targets: Any, settings: dict[str, Any], source: torch.Generator) -> OutputProduct:
    """Mean squared error over D entries is the negative log-likelihood of N(z, D/2): r = sqrt(2/D) ε."""
    noise = torch.randn(z.shape, generator=source, dtype=torch.float64, device="cpu").to(z)
    slopes = noise * sqrt(2 * len(z) / z.numel())
    return lambda u: _rank_one_sum(slopes, _equal_weights(z), u)


def _bernoulli(z: Tensor, targets: Any, settings: dict[str, Any], source: torch.Generator) -> OutputProduct:
    """r = (σ(z) − y) / sqrt(D), y ~ Bernoulli(σ(z)): the mean over D independent entries weighs each by 1/D."""
    p = z.sigmoid()
    drawn = torch.bernoulli(p.double().cpu(), generator=source).to(z)
    slopes = (p - drawn) * sqrt(len(z) / z.numel())
    return lambda u: _rank_one_sum(slopes, _equal_weights(z), u)


def _equal_weights(z: Tensor) -> Tensor:
    return torch.full((len(z),), 1 / len(z), dtype=z.dtype, device=z.device)
