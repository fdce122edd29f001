"""AdaHessian: Adam with the Hessian's diagonal in place of the squared gradient.

D = z ⊙ Hz with one Rademacher z, averaged in space; D̄ = sqrt(EMA(D²)/(1 − β₂ᵗ));
w ← w − lr (m̂/(D̄^k + eps) + weight_decay w), m̂ = EMA(g)/(1 − β₁ᵗ). H z is the derivative of g·z: the backward pass
builds a graph, which is gone when `backward` returns.

Averaging in space takes the mean over each kernel of a convolution, and in a matrix over blocks of `block` consecutive
entries of a row, of D in the paper's text and of |D| in its authors' code, which is `absolute`.
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

    Micro-batches add up, in the gradient and in D. Probes follow from the seed and their number, both saved. `backward`
    leaves gradients in all leaves, as torch's does, so that other optimisers may stand beside, as the paper has Adagrad
    on an embedding, also a sparse one, whose second derivative torch lacks:

        dense, rows = AdaHessian(mlp.parameters()), torch.optim.Adagrad(embedding.parameters())
        dense.zero_grad(), rows.zero_grad()
        dense.backward(criterion(mlp(embedding(index)), targets))
        dense.step(), rows.step()

    Args:
        params: parameters or parameter groups.
        lr: learning rate; reference: .15.
        betas: decay of the averages of g and of D², each in [0, 1).
        eps: added to D̄^k; reference: 1e-4.
        weight_decay: decoupled, at w.
        hessian_power: k, in (0, 1]; reference: 1.
        period: steps between two Hessian products, 1 to 5 in the paper; D̄ stays as it is between them.
        seed: of the probes.
        block: b, entries of a matrix's row that share their mean, the last ones of a row maybe fewer; reference: 32
            (translation); 1 averages convolutions alone. May stand in a parameter group, as `absolute`.
        absolute: average |D|, not D.
    Raises:
        ValueError: if an argument is out of range; at a step, if `backward` was never called; in `backward`, if a
            gradient is sparse.
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
        block: int = 1,
        absolute: bool = False,
    ) -> None:
        not_negative("lr", lr)
        not_negative("eps", eps)
        not_negative("weight_decay", weight_decay)
        positive("hessian_power", hessian_power)
        integer_in("period", period, 1)
        integer_in("seed", seed, 0)
        integer_in("block", block, 1)
        pair = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
        require(pair, f"betas must be two numbers in [0, 1), got {betas!r}")
        shared = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "hessian_power": hessian_power}
        super().__init__(params, {"lr": lr, **shared, "block": block, "absolute": absolute})
        # in a group, so that states and copies have them
        self.param_groups[0].update(seed=seed, steps=0, probes=0, period=period)
        self._diagonal: dict[Tensor, Tensor] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, or a state that is loaded; one of an older version has no block and no period."""
        period = self.period if "param_groups" in vars(self) else 1
        super().__setstate__(state)
        self._diagonal = {}
        self.param_groups[0].setdefault("period", period)
        for group in self.param_groups:
            group.setdefault("block", 1)
            group.setdefault("absolute", False)

    @property
    def period(self) -> int:
        """Steps between two Hessian products."""
        return int(self.param_groups[0]["period"])

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss` to the leaves' `.grad`, and its D to what the next step takes in, where due.

        Raises:
            ValueError: if loss depends on no leaf that requires grad.
        """
        leaves, due = _leaves(loss), self.param_groups[0]["steps"] % self.period == 0
        found = dict(zip(leaves, torch.autograd.grad(loss, leaves, create_graph=due), strict=True))
        used = [(p, found[p]) for group in self.param_groups for p in group["params"] if p in found]
        for p, g in used:
            require(not g.is_sparse, f"D needs a dense gradient, got a sparse one of {tuple(p.shape)}; see AdaHessian")
        if due:
            self._add_diagonal(used, loss.device)
        for p, g in found.items():
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
            D = torch.zeros_like(p) if product is None else z * product
            self._diagonal[p] = self._diagonal[p] + D if p in self._diagonal else D

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[p], group["betas"]
        if not state:
            require(p in self._diagonal, "D is missing: call optimizer.backward(loss), not loss.backward()")
            state.update(step=0, refreshes=0, mean=torch.zeros_like(p), squares=torch.zeros_like(p))
        if p in self._diagonal:
            state["refreshes"] += 1
            D = averaged(self._diagonal[p], group["block"], group["absolute"])
            state["squares"].mul_(beta2).addcmul_(D, D, value=1 - beta2)
        state["step"] += 1
        state["mean"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
        scale = (state["squares"] / (1 - beta2 ** state["refreshes"])).sqrt() ** group["hessian_power"] + group["eps"]
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - beta1 ** state["step"]))


def averaged(D: Tensor, block: int = 1, absolute: bool = False) -> Tensor:
    """The mean of D, or of |D|, over each kernel of a convolution's weight, and each block of a matrix's row."""
    D = D.abs() if absolute else D
    if D.ndim > 2:
        return D.mean(tuple(range(2, D.ndim)), keepdim=True).expand_as(D)
    if D.ndim < 2 or block == 1:
        return D
    return torch.cat([part.mean(1, keepdim=True).expand_as(part) for part in D.split(block, 1)], 1)


def _leaves(loss: Tensor) -> list[Tensor]:
    """The tensors in which `loss.backward()` would leave a gradient."""
    found: list[Tensor] = []
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            found.append(node.variable)  # type: ignore[attr-defined]
        waiting += [following for following, _ in node.next_functions]
    require(bool(found), "loss must depend on a tensor that requires grad, got one that does not")
    return found
