"""AdaHessian: Adam with the Hessian's diagonal in place of the squared gradient.

D = z ⊙ Hz with one Rademacher z, and in a convolution the mean of D over each kernel; D̄ = sqrt(EMA(D²)/(1 − β₂ᵗ));
w ← w − lr (m̂/(D̄^k + eps) + weight_decay w), m̂ = EMA(g)/(1 − β₁ᵗ). H z is the derivative of g·z: the backward pass
builds a graph, which is gone when `backward` returns.
Source: Yao et al. 2021, arXiv:2006.00719.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.checks import integer_in, not_negative, positive, require


class AdaHessian(torch.optim.Optimizer):
    """A torch optimiser that needs the loss itself: `optimizer.backward(loss)` stands in place of `loss.backward()`.

    Micro-batches add up, in the gradient and in D. Probes follow from the seed and their number, both saved.

    Args:
        params: parameters or parameter groups.
        lr: learning rate; reference: .15.
        betas: decay of the averages of g and of D², each in [0, 1).
        eps: added to D̄^k; reference: 1e-4.
        weight_decay: decoupled, at w.
        hessian_power: k, in (0, 1]; reference: 1.
        period: steps between two Hessian products, 1 to 5 in the paper; D̄ stays as it is between them.
        seed: of the probes.
    Raises:
        ValueError: if an argument is out of range; at a step, if `backward` was never called.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.15,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        period: int = 1,
        seed: int = 0,
    ) -> None:
        not_negative("lr", lr)
        not_negative("eps", eps)
        not_negative("weight_decay", weight_decay)
        positive("hessian_power", hessian_power)
        integer_in("period", period, 1)
        integer_in("seed", seed, 0)
        pair = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
        require(pair, f"betas must be two numbers in [0, 1), got {betas!r}")
        shared = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "hessian_power": hessian_power}
        super().__init__(params, {"lr": lr, **shared})
        self.period = period
        self.param_groups[0].update(seed=seed, steps=0, probes=0)  # in a group, so that state_dict has them
        self._diagonal: dict[Tensor, Tensor] = {}

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to `.grad`, and its D to what the next step takes in, where that is due."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        due = self.param_groups[0]["steps"] % self.period == 0
        found = torch.autograd.grad(loss, parameters, create_graph=due, allow_unused=True)
        used = [(p, g) for p, g in zip(parameters, found, strict=True) if g is not None]
        if due:
            self._add_diagonal(used, loss.device)
        for p, g in used:
            p.grad = g.detach() if p.grad is None else p.grad + g.detach()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients, as torch does; D that no step took in goes too."""
        self._diagonal.clear()
        super().zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; a closure may compute the loss, call `backward` and return the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)
        self._diagonal.clear()
        self.param_groups[0]["steps"] += 1
        return loss

    def _add_diagonal(self, used: list[tuple[Tensor, Tensor]], device: torch.device) -> None:
        first = self.param_groups[0]
        mixed = np.random.SeedSequence((first["seed"], first["probes"])).generate_state(1, np.uint64)[0]
        first["probes"] += 1
        source = torch.Generator(device).manual_seed(int(mixed))
        probes = [torch.randint(2, g.shape, generator=source, device=device).to(g) * 2 - 1 for _, g in used]
        curved = [(g * z).sum() for (_, g), z in zip(used, probes, strict=True) if g.requires_grad]
        parameters = [p for p, _ in used]
        products = torch.autograd.grad(curved, parameters, allow_unused=True) if curved else [None] * len(used)
        for p, z, product in zip(parameters, probes, products, strict=True):
            D = torch.zeros_like(p) if product is None else _averaged(z * product)
            self._diagonal[p] = self._diagonal[p] + D if p in self._diagonal else D

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[p], group["betas"]
        if not state:
            require(p in self._diagonal, "D is missing: call optimizer.backward(loss), not loss.backward()")
            state.update(step=0, refreshes=0, mean=torch.zeros_like(p), squares=torch.zeros_like(p))
        if p in self._diagonal:
            state["refreshes"] += 1
            state["squares"].mul_(beta2).addcmul_(self._diagonal[p], self._diagonal[p], value=1 - beta2)
        state["step"] += 1
        state["mean"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
        scale = (state["squares"] / (1 - beta2 ** state["refreshes"])).sqrt() ** group["hessian_power"] + group["eps"]
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - beta1 ** state["step"]))


def _averaged(D: Tensor) -> Tensor:
    """The mean over each kernel of a convolution's weight; other tensors as they are."""
    return D.mean(tuple(range(2, D.ndim)), keepdim=True).expand_as(D) if D.ndim > 2 else D
