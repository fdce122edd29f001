"""The gradients of one step as one vector (P,): read after each backward pass, written before the base's step."""

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor
from torch.amp.grad_scaler import OptState

from landscape.checks import require
from landscape.vectors import Vector, flatten, placed_as


def finite(*vectors: Vector) -> bool:
    """Whether no entry is NaN or infinite; on a CPU 15 times as fast as isfinite().all()."""
    ends = [end * 0 for v in vectors for end in v.aminmax()]  # NaN spreads to both, and 0 times infinity is NaN
    return bool(sum(ends) == 0)


def clipped(d: Vector, max_norm: float) -> Vector:
    """d, shortened as by `clip_grad_norm_`, which takes no sparse gradients."""
    return d * (max_norm / (d.norm() + 1e-6)).clamp(max=1.0)


class Gradients:
    """The `.grad` of the parameters. None counts as zero; a parameter without one in every pass is left alone.

    A sparse gradient (`nn.Embedding(sparse=True)`) is written back sparse, with the rows that are not zero, so that the
    base optimiser does with it what it does without a rule.

    Args:
        parameters: in the order of (P,).
        scaler: by which the losses are scaled; what is read is unscaled.
        owners: optimisers of the parameters, for which nobody else may have unscaled them.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        scaler: torch.amp.GradScaler | None = None,
        owners: Sequence[torch.optim.Optimizer] = (),
    ) -> None:
        self.parameters, self.scaler, self._owners = parameters, scaler, owners
        self._used = [False] * len(parameters)
        self._sparse = [0] * len(parameters)  # axes of the index of a sparse gradient, 0 of a dense one

    def read(self) -> Vector:
        """The gradient of the loss, (P,). Raises ValueError if it was unscaled before."""
        states = getattr(self.scaler, "_per_optimizer_states", {})
        require(
            all(states.get(id(owner), {}).get("stage") is not OptState.UNSCALED for owner in self._owners),
            "scaler.unscale_ must not be called with scaler=: the step unscales by itself; to clip, give max_norm",
        )
        self._used = [used or p.grad is not None for p, used in zip(self.parameters, self._used, strict=True)]
        self._sparse = [
            axes if p.grad is None else p.grad.sparse_dim() if p.grad.is_sparse else 0
            for p, axes in zip(self.parameters, self._sparse, strict=True)
        ]
        g = flatten([torch.zeros_like(p) if p.grad is None else _dense(p.grad) for p in self.parameters])
        return g if self.scaler is None else g / self.scaler.scale(g.new_ones(()))

    def clear(self) -> None:
        """Drop all gradients: a pass must not add to the one before."""
        for p in self.parameters:
            p.grad = None

    def write(self, d: Vector) -> None:
        """Put d (P,) into `.grad`."""
        pieces = d.split([p.numel() for p in self.parameters])
        for p, piece, used, axes in zip(self.parameters, pieces, self._used, self._sparse, strict=True):
            if not used:
                p.grad = None
            elif axes:
                p.grad = piece.view_as(p).to(p.dtype).to_sparse(axes)
            elif p.grad is None:
                p.grad = placed_as(piece, p).to(p.dtype, copy=True)
            else:
                p.grad.copy_(placed_as(piece, p))


def _dense(grad: Tensor) -> Tensor:
    return grad.to_dense() if grad.is_sparse else grad


class ScalerReport:
    """Tells a GradScaler whether a step had finite gradients, once however many passes it had.

    A scaler learns of infinities by unscaling an optimiser's gradients, which it does once an optimiser before each
    update: here those of an optimiser of a single number.
    """

    def __init__(self) -> None:
        self._optimizer = torch.optim.SGD([torch.zeros((), device="cpu")])

    def tell(self, scaler: torch.amp.GradScaler | None, fine: bool, device: torch.device) -> None:
        """Tell it, where there is a scaler. Raises RuntimeError, which is torch's, if it was not updated since."""
        if scaler is not None:
            number = torch.zeros((), device=device)
            number.grad = torch.full_like(number, 0.0 if fine else inf)
            self._optimizer.param_groups[0]["params"] = [number]
            scaler.unscale_(self._optimizer)
