"""Oracles that need first derivatives alone: backward() on a moved copy of the network, and differences of it.

No code of the library is used here, and none of torch's second derivatives.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from kinds import Network
from torch import Tensor, nn


def richardson(function: Callable[[Tensor], Tensor], at: Tensor, v: Tensor, step: float) -> Tensor:
    """The derivative of `function` along v, (4 D(h) − D(2h)) / 3 with D(h) a central difference: error of h⁴.

    `step`: h along a unit vector.
    """
    size = v.norm().clamp(min=1e-300)

    def slope(h: float) -> Tensor:
        return (function(at + h / size * v) - function(at - h / size * v)) * (size / (2 * h))

    return (4 * slope(step) - slope(2 * step)) / 3


class Oracle:
    """Loss, gradient and products of a network at any w (P,)."""

    def __init__(self, network: Network) -> None:
        model, forward = network.plain or (network.model, network.forward)
        self.model = copy.deepcopy(model).eval()
        if network.plain is not None:
            self.model.double()
        self.forward = forward or (lambda m, x: m(x))
        self.network, self.criterion = network, network.criterion
        self.units = [float((network.weight or (lambda _, t: len(t)))(x, t)) for x, t in network.batches]

    @property
    def w(self) -> Tensor:
        return flat([p.detach() for p in chosen(self.model)])

    def loss(self, w: Tensor) -> Tensor:
        with self.moved(w) as model:
            return self.total(model).detach()

    def gradient(self, w: Tensor) -> Tensor:
        with self.moved(w) as model:
            self.total(model).backward()
            return gradients(model)

    def hessian(self, v: Tensor) -> Tensor:
        return richardson(self.gradient, self.w, v, self.network.step)

    def ggn(self, v: Tensor) -> Tensor:
        """Σ share · Jᵀ C J v; J v by differences of outputs, C by differences of the criterion's gradient."""
        total = torch.zeros_like(v)
        for (x, t), share in self._shares():
            Jv = richardson(lambda w, x=x: self._outputs(w, x), self.w, v, self.network.step)
            CJv = richardson(lambda z, t=t: self._slope(z, t), self._outputs(self.w, x), Jv, 1e-3)
            with self.moved(self.w) as model:
                (self.forward(model, x) * CJv).sum().backward()
                total += share * gradients(model)
        return total

    def empirical(self, v: Tensor) -> Tensor:
        """Mean of g gᵀ v over the units, g the gradient of the criterion on a row of the outputs."""
        total, count = torch.zeros_like(v), 0.0
        for (x, t), _ in self._shares():
            with self.moved(self.w) as model:
                z = self.forward(model, x)
                for i in range(len(t)):
                    model.zero_grad()
                    self.criterion(z[i : i + 1], t[i : i + 1]).backward(retain_graph=True)
                    weight, g = self._units_of_row(x, t, i), gradients(model)
                    total, count = total + weight * (g @ v) * g, count + weight
        return total / count

    def total(self, model: nn.Module) -> Tensor:
        return sum(share * self.criterion(self.forward(model, x), t) for (x, t), share in self._shares())

    @contextmanager
    def moved(self, w: Tensor) -> Iterator[nn.Module]:
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for p, piece in zip(chosen(model), w.split([p.numel() for p in chosen(model)]), strict=True):
                p.copy_(piece.view_as(p))
        with noted(self.network):
            yield model

    def _units_of_row(self, x: Any, t: Any, i: int) -> float:
        return 1.0 if self.network.weight is None else float(self.network.weight(x, t[i : i + 1]))

    def _shares(self) -> list[tuple[tuple[Any, Any], float]]:
        total = sum(self.units)
        return [(batch, units / total) for batch, units in zip(self.network.batches, self.units, strict=True)]

    def _outputs(self, w: Tensor, x: Any) -> Tensor:
        with self.moved(w) as model:
            return self.forward(model, x).detach()

    def _slope(self, z: Tensor, t: Any) -> Tensor:
        z = z.clone().requires_grad_()
        return torch.autograd.grad(self.criterion(z, t), z)[0]


@contextmanager
def noted(network: Network) -> Iterator[None]:
    """The draws that the library has made, once more."""
    if network.draws is None:
        yield
        return
    network.draws.given = True
    try:
        yield
    finally:
        network.draws.given = False


def chosen(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def gradients(model: nn.Module) -> Tensor:
    return flat([torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in chosen(model)])


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
