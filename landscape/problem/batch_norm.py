"""What a network's batch normalisation uses while it is analysed.

"eval": the stored statistics. "batch": each batch's own. "recompute": the mean and variance over the whole data set
of each layer's input, one pass with every batch normalised by itself as in training, so that a smooth interpolation
or a displaced network is not judged by statistics of other weights. Pooled over units, not averaged over batches:
an unequal last batch counts for what it is.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

POLICIES = ("eval", "batch", "recompute")


def batch_norm_layers(model: nn.Module) -> dict[str, _NormBase]:
    """The layers that keep running statistics (batch and instance norm), by module name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _NormBase) and m.running_mean is not None}


@contextmanager
def inference_flags(modules: Iterable[nn.Module], *, batch_statistics: bool) -> Iterator[None]:
    """Dropout and the like off; batch norm on batch or stored statistics; flags put back as found."""
    found = []
    for module in modules:
        wanted = batch_statistics and isinstance(module, _NormBase)
        if module.training != wanted:
            found.append((module, module.training))
            module.training = wanted
    try:
        yield
    finally:
        for module, flag in found:
            module.training = flag


@dataclass
class Moments:
    """Running sums of a layer's input, per channel, in float64."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros((), device="cpu"))
    squares: Tensor = field(default_factory=lambda: torch.zeros((), device="cpu"))

    def add(self, x: Tensor) -> None:
        """Take in `x` (B, C, ...)."""
        axes = [axis for axis in range(x.ndim) if axis != 1]
        x = x.detach().double()
        self.count += x.numel() // x.shape[1]
        self.total = self.total.to(x.device) + x.sum(axes)
        self.squares = self.squares.to(x.device) + x.square().sum(axes)

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance, (C,) each, as torch stores them."""
        mean = self.total / self.count
        return mean, (self.squares / self.count - mean**2).clamp(min=0) * (self.count / max(self.count - 1, 1))


@contextmanager
def moments_recorded(model: nn.Module) -> Iterator[dict[str, Moments]]:
    """Record the moments of every batch-norm layer's input during the block, by module name."""
    moments = {name: Moments() for name in batch_norm_layers(model)}
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: moments[name].add(inputs[0]))
        for name, layer in batch_norm_layers(model).items()
    ]
    try:
        yield moments
    finally:
        for hook in hooks:
            hook.remove()


def as_buffers(model: nn.Module, moments: dict[str, Moments], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The recorded moments as buffers of the model: name of the buffer to tensor, in its own or another precision."""
    buffers = {}
    for name, layer in batch_norm_layers(model).items():
        if moments[name].count:
            mean, variance = moments[name].mean_and_variance()
            prefix = f"{name}." if name else ""
            for what, moment in (("running_mean", mean), ("running_var", variance)):
                own: Tensor = getattr(layer, what)
                buffers[prefix + what] = moment.to(own.device, dtype or own.dtype)
    return buffers


def packed(model: nn.Module, moments: dict[str, Moments]) -> Tensor:
    """The moments as one vector, as long on every process, also where no batch was seen: they add up."""
    parts = []
    for name, layer in batch_norm_layers(model).items():
        own = moments.get(name, Moments())
        sums = [part.expand(layer.num_features) for part in (own.total, own.squares)]
        parts.append(torch.cat([torch.tensor([own.count], device="cpu"), *(part.cpu().double() for part in sums)]))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64, device="cpu")


def unpacked(model: nn.Module, flat: Tensor) -> dict[str, Moments]:
    """What `packed` put into one vector."""
    layers = batch_norm_layers(model)
    pieces = flat.split([1 + 2 * layer.num_features for layer in layers.values()])
    return {name: Moments(int(piece[0]), *piece[1:].chunk(2)) for name, piece in zip(layers, pieces, strict=True)}
