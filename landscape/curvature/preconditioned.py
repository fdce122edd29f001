"""The Hessian as an optimiser sees it: P^-½ H P^-½, which has the eigenvalues of P⁻¹H, with P its preconditioner.

w ← w − η P⁻¹ m, m an average of gradients: on a quadratic it diverges along an eigenvector of P⁻¹H whose eigenvalue
exceeds a threshold that η and the average alone decide. P = I in SGD; sqrt(v̂) + ε in Adam and AdamW, v̂ the average
of squared gradients without its bias; sqrt(v) + ε in RMSprop, v the average as it is, in `centered` less the squared
mean; sqrt(Σ g²) + ε in Adagrad.
Source: Cohen et al. 2021, arXiv:2103.00065 (gradient descent, momentum); 2022, arXiv:2207.14484 (P, Adam).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.curvature.hessian import hessian
from landscape.linalg.operator import CurvatureOperator, DerivedOperator
from landscape.problem import Problem
from landscape.vectors import Vector

State = Mapping[str, Any]
Group = Mapping[str, Any]
HOW = "make a step first, or optimizer.load_state_dict(...) of the checkpoint"


class Preconditioned(DerivedOperator):
    """S A S for a diagonal S (P,)."""

    def __init__(self, operator: CurvatureOperator, scale: Vector) -> None:
        super().__init__(operator)
        self.scale = scale.to(dtype=operator.dtype, device=operator.device)[:, None]
        self.largest = self.space.largest(float(scale.max()) if len(scale) else 0.0)

    @property
    def errors(self) -> Tensor | None:
        inner = self.operator.errors
        return None if inner is None else self.largest * inner

    def _product(self, block: Tensor) -> Tensor:
        return self.scale * self.operator.matmat(self.scale * block)


def preconditioned_hessian(problem: Problem, optimizer: torch.optim.Optimizer) -> CurvatureOperator:
    """P^-½ H P^-½ at the model's weights; H itself where P = I.

    Where groups have learning rates of their own, P⁻¹ holds η_group / η, η the largest of them.

    Args:
        problem: the scalar function; weight decay is no part of it, unless the criterion has it.
        optimizer: SGD, Adam, AdamW, RMSprop or Adagrad of torch with its state, or one around it (SharpnessAware).
    Raises:
        ValueError: if it is of another kind, lacks one of the problem's parameters, or has no state yet.
    """
    base = _base(optimizer)
    with problem.space.agreed():
        fastest, scales = _fastest(base), []
        groups = {p: group for group in base.param_groups for p in group["params"]}
        for name, p in zip(problem.layout.names, held_by(problem, base), strict=True):
            speed = groups[p]["lr"] / fastest if fastest > 0 else 1.0
            scales.append((speed / _diagonal(base, groups[p], base.state.get(p, {}), name, p)).sqrt())
        scale = problem.flat(scales)
    scaled = problem.space.any(bool((scale != 1).any()))
    return Preconditioned(hessian(problem), scale) if scaled else hessian(problem)


def stability_threshold(optimizer: torch.optim.Optimizer) -> float:
    """The largest eigenvalue of P⁻¹H on which full-batch steps stay stable; infinite at η = 0.

    2/η for gradient descent, (2 + 2β)/((1 − τ)η) for momentum β with dampening τ, (2 + 2β)/((1 + 2β)η) for Nesterov's,
    (2 + 2β₁)/((1 − β₁)η) for Adam: 38/η at β₁ = .9.

    Raises:
        ValueError: if it is of another kind, or its groups have different momenta.
    """
    base = _base(optimizer)
    momenta = {_momentum(base, group) for group in base.param_groups}
    require(len(momenta) == 1, f"all groups of optimizer must have one momentum, got {sorted(momenta)}")
    ((factor,), eta) = momenta, _fastest(base)
    return factor / eta if eta > 0 else float("inf")


def innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimiser inside, of one around another such as SharpnessAware."""
    while isinstance(inner := getattr(optimizer, "base", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


def held_by(problem: Problem, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The problem's parameters in its order. Raises ValueError if the optimiser lacks one."""
    own = {p for group in optimizer.param_groups for p in group["params"]}
    found = problem.parameters
    lacking = [name for name, p in zip(problem.layout.names, found, strict=True) if p not in own]
    require(
        not lacking,
        f"optimizer must hold the problem's parameters, {', '.join(lacking[:3])} it does not; give that of this very "
        "model, or parameters= to the problem",
    )
    return found


def _base(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer = innermost(optimizer)
    known = isinstance(optimizer, (*SQUARES, torch.optim.SGD))
    require(known, f"optimizer must be SGD, Adam, AdamW, RMSprop or Adagrad, got {type(optimizer).__name__}")
    return optimizer


def _fastest(base: torch.optim.Optimizer) -> float:
    return max(float(group["lr"]) for group in base.param_groups)


def _momentum(base: torch.optim.Optimizer, group: Group) -> float:
    """The threshold times η."""
    if isinstance(base, torch.optim.Adam):
        beta = float(group["betas"][0])
        return (2 + 2 * beta) / (1 - beta)
    beta, dampening = float(group.get("momentum", 0.0)), float(group.get("dampening", 0.0))
    if group.get("nesterov", False):
        return (2 + 2 * beta) / (1 + 2 * beta)
    return (2 + 2 * beta) / (1 - dampening if beta > 0 else 1.0)


def _diagonal(base: torch.optim.Optimizer, group: Group, state: State, name: str, p: Tensor) -> Tensor:
    if isinstance(base, torch.optim.SGD):
        return torch.ones_like(p)
    require(bool(state), f"optimizer must have its state, of {name} it has none; {HOW}")
    squares = next(own for kind, own in SQUARES.items() if isinstance(base, kind))
    return squares(state, group).sqrt() + group["eps"]


def _adam(state: State, group: Group) -> Tensor:
    v: Tensor = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
    return v / (1 - group["betas"][1] ** float(state["step"]))  # of a float32 tensor: 1e-4 off at first


def _rmsprop(state: State, group: Group) -> Tensor:
    v: Tensor = state["square_avg"]
    return v - state["grad_avg"] ** 2 if group["centered"] else v


def _adagrad(state: State, group: Group) -> Tensor:
    require(group["lr_decay"] == 0, f"Adagrad must have lr_decay 0, got {group['lr_decay']}; let a scheduler lower lr")
    require(float(state["step"]) > 0, f"optimizer must have its state, Adagrad has made no step; {HOW}")
    total: Tensor = state["sum"]
    return total


SQUARES: dict[type[torch.optim.Optimizer], Callable[[State, Group], Tensor]] = {
    torch.optim.Adam: _adam,  # AdamW is one
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adagrad: _adagrad,
}
