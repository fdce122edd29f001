"""Dense float64 oracles: torch's own derivatives on all the data at once. No code of the library is used here."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from cases import Case
from torch import Tensor, nn
from torch.autograd.functional import hessian as dense_hessian
from torch.autograd.functional import jacobian
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

Part = tuple[Any, Tensor, float]  # inputs, targets, share of the whole


class WeightNorm(nn.Module):
    """Over the rows of a matrix."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        return g * v / v.square().sum(1, keepdim=True).sqrt()


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def vector(case: Case) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters(case.model).values()])


def parts(case: Case, batch_norm: str = "eval") -> list[Part]:
    """The whole data in one piece; with batch statistics the batches as they are."""
    if batch_norm != "batch":
        return [(case.inputs, case.targets, 1.0)]
    units = [float(case.weight(x, t)) if case.weight else len(t) for x, t in case.batches]
    return [(x, t, u / sum(units)) for (x, t), u in zip(case.batches, units, strict=True)]


def prepared(case: Case, batch_norm: str = "eval") -> nn.Module:
    """A copy of the model with the flags and statistics of the policy."""
    model = copy.deepcopy(case.model).eval()
    for m in model.modules():
        if isinstance(m, parametrize.ParametrizationList) and type(m[0]).__name__ == "_WeightNorm":
            m[0] = WeightNorm()  # torch's own is not differentiated twice correctly
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if batch_norm == "eval":
        return model
    for m in norms:
        m.train()
    if batch_norm == "recompute":
        seen: dict[nn.Module, list[Tensor]] = {m: [] for m in norms}
        for m in norms:
            m.register_forward_hook(lambda m, x, _: seen[m].append(x[0].detach().transpose(0, 1).flatten(1)))
        for x, _ in case.batches:
            model(x)
        for m in norms:
            values = torch.cat(seen[m], dim=1)
            m.running_mean, m.running_var = values.mean(1), values.var(1)
        model.eval()
    return model


def outputs_of(case: Case, model: nn.Module, inputs: Any) -> Callable[[Tensor], Tensor]:
    own = parameters(model)

    def outputs(w: Tensor) -> Tensor:
        pieces = w.split([p.numel() for p in own.values()])
        state = {name: piece.reshape(p.shape) for (name, p), piece in zip(own.items(), pieces, strict=True)}
        if case.forward is None:
            return torch.func.functional_call(model, state, (inputs,))
        return case.forward(lambda **kw: torch.func.functional_call(model, state, (), kw), inputs)

    return outputs


def loss_of(case: Case, batch_norm: str = "eval") -> Callable[[Tensor], Tensor]:
    """The mean loss as a function of w (P,)."""
    model = prepared(case, batch_norm)
    pieces = [(outputs_of(case, model, x), t, share) for x, t, share in parts(case, batch_norm)]
    return lambda w: sum(share * case.criterion(z(w), t) for z, t, share in pieces) + case.cubic * (w**3).sum()


def gradient(case: Case, batch_norm: str = "eval") -> Tensor:
    w = vector(case).requires_grad_()
    return torch.autograd.grad(loss_of(case, batch_norm)(w), w)[0]


def hessian(case: Case, batch_norm: str = "eval") -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return dense_hessian(loss_of(case, batch_norm), vector(case))


def ggn(case: Case, batch_norm: str = "eval") -> Tensor:
    """Σ share · Jᵀ C J with both factors written out."""
    model, total = prepared(case, batch_norm), 0
    for x, t, share in parts(case, batch_norm):
        z = outputs_of(case, model, x)
        J = jacobian(z, vector(case)).flatten(0, -2)
        out = z(vector(case)).detach()
        C = dense_hessian(lambda flat, t=t, out=out: case.criterion(flat.view_as(out), t), out.flatten())
        total = total + share * (J.T @ C @ J)
    return total


def empirical_fisher(case: Case) -> Tensor:
    """Mean of g gᵀ in a loop over the samples, each run through the network alone."""
    model, total, count = prepared(case), 0, 0.0
    for i in range(len(case.targets)):
        one = slice(i, i + 1)
        x = {k: v[one] for k, v in case.inputs.items()} if isinstance(case.inputs, dict) else case.inputs[one]
        t = case.targets[one]
        units = float(case.weight(x, t)) if case.weight else 1.0
        w = vector(case).requires_grad_()
        g = torch.autograd.grad(case.criterion(outputs_of(case, model, x)(w), t), w)[0]
        total, count = total + units * torch.outer(g, g), count + units
    return total / count


def relative(a: Tensor, b: Tensor) -> float:
    """|a − b| / |b|."""
    return float((a.detach() - b.detach()).norm() / b.detach().norm())
