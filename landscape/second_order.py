"""What torch differentiates twice only in another form, put into that form for the length of a block.

Attention: the fused kernels have no double backward, MATH has. Weight normalisation: the double backward of the fused
kernel takes the norm for a constant, which gives wrong and unsymmetric Hessians without a word; written out,
w = v g / |v|, it is right. Batch normalisation on stored statistics is one scale and one shift a channel; written so,
x s + b, its double backward is cheaper than the general one (ResNet-20, kept graphs, interleaved: 2.73 gradients a
product before, 2.24 after).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode


@contextmanager
def differentiable_twice(model: nn.Module) -> Iterator[None]:
    """Run the model's attention, weight and batch normalisation so that second derivatives exist and are right."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        weight_norm = any(name.endswith(("weight_g", "original0")) for name, _ in model.named_parameters())
        if weight_norm or any(isinstance(module, _NormBase) for module in model.modules()):
            stack.enter_context(_WrittenOut())
        yield


class _WrittenOut(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        function = _weight_norm if func == torch._weight_norm else func
        return function(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _batch_norm(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or mean is None or variance is None:
        return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
    scale = (variance + eps).rsqrt() if weight is None else weight * (variance + eps).rsqrt()
    shift = -mean * scale if bias is None else bias - mean * scale
    per_channel = [-1] + [1] * (x.ndim - 2)
    return (x * scale.view(per_channel) + shift.view(per_channel)).to(x.dtype)
