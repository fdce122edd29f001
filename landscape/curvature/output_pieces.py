"""Jᵀ C J where the logits z = head(h, W) are there for some tokens at a time: y = (h, W) takes the outputs' place.

With J_y of y, the states before the head and its weights, the matrix is J_yᵀ (Σ_p s_p M_pᵀ C_p M_p) J_y, M_p = ∂z_p/∂y
and C_p that of the criterion on piece p of the tokens. Each product runs the head anew.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from landscape.autograd.central_difference import central_difference
from landscape.problem.batch import Batch
from landscape.problem.hidden_states import HiddenStates, InPieces, Part

Product = Callable[[Tensor], Tensor]
Curvature = Callable[[Batch, Tensor], Product]


def in_pieces(batch: Batch, outputs: HiddenStates, curvature: Curvature, *, exactly: bool = True) -> Product:
    """Σ_p s_p M_pᵀ C_p M_p as a function of vectors like `outputs.flat()`.

    Args:
        curvature: C of a batch, here of each piece, at logits (n, V).
        exactly: M by derivatives; else by differences of logits.
    """

    def product(u: Tensor) -> Tensor:
        along = outputs.unflatten(u)

        def image(piece: _Piece) -> Sequence[Tensor]:
            C = curvature(piece.batch, piece.z.detach())  # of all, for it may draw targets
            if piece.part.share == 0:
                return [torch.zeros_like(tensor) for tensor in piece.tensors]
            return piece.pulled_back(piece.part.share * C(piece.pushed(along, exactly)))

        return _joined(image(piece) for piece in _pieces(batch, outputs)).to(u)

    return product


def rank_one_in_pieces(batch: Batch, outputs: HiddenStates, units: Tensor) -> Product:
    """Σᵢ uᵢ gᵢ gᵢᵀ / Σᵢ uᵢ, gᵢ the gradient by `outputs.flat()` of row i's own mean loss, over `units` (B,).

    Two rounds: gᵢ · u of each row from all its tokens, and then the gradient of Σᵢ (gᵢ · u) Lᵢ.
    """
    total, rows = float(units.sum()), outputs.states.shape[:2]

    def product(u: Tensor) -> Tensor:
        along = outputs.unflatten(u)
        tokens = torch.cat([(p.slopes(total) * p.pushed(along)).sum(1) for p in _pieces(batch, outputs)])  # (B T,)
        scale = torch.where(units > 0, 1 / (units * total), 0.0).to(tokens)
        spread = (tokens.view(rows).sum(1) * scale).repeat_interleave(rows[1])
        back = (p.pulled_back(spread[p.part.places, None] * p.slopes(total)) for p in _pieces(batch, outputs))
        return _joined(back).to(u)

    return product


class _Piece:
    """Some tokens' logits z (n, V) as a function of their states and the head's weights."""

    def __init__(self, batch: Batch, outputs: HiddenStates, criterion: InPieces, part: Part) -> None:
        network = replace(batch.network, criterion=criterion.criterion)
        self.batch = replace(batch, network=network, targets=part.targets, units=part.share)
        self.outputs, self.part = outputs, part
        states, *chosen = outputs.tensors
        self.tensors = [own.detach().requires_grad_() for own in (states.flatten(0, 1)[part.places], *chosen)]
        self.z = self._logits(self.tensors)

    def slopes(self, total: float) -> Tensor:
        """∂ℓ/∂z of each token's own loss, (n, V); 0 where it does not count."""
        return self.batch.slope(self.z) * (self.part.share * total) if self.part.share else torch.zeros_like(self.z)

    def pushed(self, along: Sequence[Tensor], exactly: bool = True) -> Tensor:
        """M u, (n, V)."""
        along = [along[0][self.part.places], *along[1:]]
        if exactly:
            u = self.z.new_zeros(()).expand_as(self.z).requires_grad_()  # Mᵀu is linear in u
            back = torch.autograd.grad(self.z, self.tensors, u, create_graph=True)
            return torch.autograd.grad(back, u, along)[0]
        sizes = [
            torch.stack([tensor.detach().norm() for tensor in tensors]).norm() for tensors in (self.tensors, along)
        ]
        eps = torch.finfo(self.z.dtype)
        t = eps.eps ** (1 / 3) * float((1 + sizes[0]) / sizes[1].clamp(min=eps.tiny))

        def moved(s: float) -> Tensor:
            return self._logits([tensor + s * u for tensor, u in zip(self.tensors, along, strict=True)])

        with torch.no_grad():
            return central_difference(moved, t)[0]

    def pulled_back(self, u: Tensor) -> Sequence[Tensor]:
        """Mᵀu, by states and weights."""
        return torch.autograd.grad(self.z, self.tensors, u, retain_graph=True)

    def _logits(self, tensors: Sequence[Tensor]) -> Tensor:
        chosen = dict(zip(self.outputs.chosen, tensors[1:], strict=True))
        return self.outputs.logits(tensors[0], {**self.outputs.weights, **chosen})


def _pieces(batch: Batch, outputs: HiddenStates) -> Iterator[_Piece]:
    criterion = batch.network.criterion
    assert isinstance(criterion, InPieces)
    return (_Piece(batch, outputs, criterion, part) for part in criterion.parts(outputs, batch.targets))


def _joined(images: Iterator[Sequence[Tensor]]) -> Tensor:
    """Rows of states one below the other, weights added up; flat."""
    rows: list[Tensor] = []
    sums: list[Tensor] = []
    for states, *weights in images:
        rows.append(states)
        sums = [one.add_(two) for one, two in zip(sums, weights, strict=True)] if sums else [w.clone() for w in weights]
    return torch.cat([torch.cat(rows).reshape(-1), *(own.reshape(-1) for own in sums)])
