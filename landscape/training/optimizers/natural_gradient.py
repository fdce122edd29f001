"""Natural gradient: w ← w − lr (F + λ I)⁻¹ ∇L, F the exact Fisher matrix of the batch, by conjugate gradients.

λ follows the rule of Levenberg and Marquardt as Martens has it: δ is the step, M(δ) = ∇L·δ + ½ δᵀFδ the change that
F foresees, r = (L(w + δ) − L(w)) / M(δ) the reduction ratio; λ ← 3/2 λ where r < 1/4, λ ← 2/3 λ where r > 3/4.
Source: Martens 2010, "Deep learning via Hessian-free optimization", and its code, nnet_train_2.m (drop = 2/3, boost =
1/drop, M without λ, an r that is no number counts as low); Martens 2020, "New insights and perspectives on the natural
gradient method".
"""

from collections.abc import Iterable
from math import isfinite, nan
from typing import Any

import torch
from torch import Tensor

from landscape.checks import integer_in, not_negative, positive, require
from landscape.curvature import fisher
from landscape.linalg.solve import solve
from landscape.problem import Problem
from landscape.vectors import Vector, assign

FEWER, MORE = 2 / 3, 3 / 2


class NaturalGradient(torch.optim.Optimizer):
    """A torch optimiser that is given the batch itself, as a `Problem`, since it needs products with F and L(w + δ).

        for inputs, targets in loader:
            loss = optimizer.step(ls.Problem(model, criterion, (inputs, targets)))

    The criterion is read as the negative log-likelihood of its own predictions, which makes F the Gauss-Newton matrix
    (cross entropy, squared error). Dropout is off, buffers stay; `.grad` is left with the gradient at w. A step costs a
    gradient, up to `products` products with F and, with `adapt`, one more and a loss. Batches should be large: the
    batch that gives the gradient gives F too.

    λ, "damping", and the last r, "reduction_ratio", are in the first parameter group, and so in the state.

    Args:
        params: parameters of the problem's model, or groups of them.
        lr: learning rate; reference: 1 with damping.
        damping: λ at first, at least 0, in the units of F; without `adapt` it may be 0.
        products: with F a step, at least 1.
        tol: relative residual at which the conjugate gradients stop.
        adapt: adapt λ, and make no step whose loss on the batch is not lower than before; else λ stays.
        verify: hold F's first product of each step against differences, some 3 gradients.
    Raises:
        ValueError: if an argument is out of range; at a step, if it gets no Problem, or a parameter is not its model's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        damping: float = 1.0,
        products: int = 50,
        tol: float = 1e-4,
        adapt: bool = True,
        verify: bool = True,
    ) -> None:
        not_negative("lr", lr)
        (positive if adapt else not_negative)("damping", damping)
        integer_in("products", products, 1)
        positive("tol", tol)
        super().__init__(params, {"lr": lr})
        own = {"damping": damping, "products": products, "tol": tol, "adapt": adapt, "verify": verify}
        self.param_groups[0].update(own, reduction_ratio=nan)  # in a group, so that states and copies have them

    def step(self, closure: Any) -> Tensor:  # type: ignore[override]
        """One step.

        Args:
            closure: the batch as a function of the weights, a `Problem`.
        Returns:
            Its loss at w, before the step.
        """
        require(
            isinstance(closure, Problem),
            f"step needs the batch as a Problem, got {type(closure).__name__}: "
            "optimizer.step(ls.Problem(model, criterion, (inputs, targets)))",
        )
        problem, parameters, rates = self._optimised(closure)
        first, w = self.param_groups[0], problem.require_whole("NaturalGradient").vector()
        loss, g = problem.loss_and_gradient(w)
        F = fisher(problem, w=w, verify=first["verify"])
        found = solve(F, g, damping=first["damping"], tol=first["tol"], max_matvecs=first["products"])
        delta = torch.cat([-rate * x for rate, x in zip(rates, found.x.split(problem.layout.sizes), strict=True)])
        if not first["adapt"] or self._adapt(
            problem, w + delta, float(loss), float(g @ delta + delta @ (F @ delta) / 2)
        ):
            assign(parameters, w + delta)
        for p, piece in zip(parameters, problem.layout.unflatten(g), strict=True):
            p.grad = piece.to(p.dtype)
        return loss

    def _adapt(self, problem: Problem, w: Vector, before: float, foreseen: float) -> bool:
        """Whether the loss falls as far as w; λ as it does."""
        first = self.param_groups[0]
        try:
            change = float(problem.loss(w)) - before
        except ValueError:  # infinite, or NaN
            change = nan
        r = first["reduction_ratio"] = change / foreseen if foreseen else nan
        if foreseen == 0:  # at a minimum
            return False
        if not r >= 1 / 4:
            first["damping"] *= MORE
        elif r > 3 / 4:
            first["damping"] *= FEWER
        return isfinite(change) and change < 0

    def _optimised(self, problem: Problem) -> tuple[Problem, list[Tensor], list[float]]:
        """The problem as a function of the optimised parameters, these in its order, and each one's learning rate."""
        rates = {p: group["lr"] for group in self.param_groups for p in group["params"] if p.requires_grad}
        names = [name for name, p in problem.model.named_parameters() if p in rates]
        require(
            len(names) == len(rates),
            f"every optimised parameter must belong to the problem's model, got {len(rates)} of which {len(names)} do",
        )
        if list(problem.layout.names) != names:
            problem = problem.restricted_to(names)
        parameters: list[Tensor] = [problem.model.get_parameter(name) for name in names]
        return problem, parameters, [float(rates[p]) for p in parameters]
