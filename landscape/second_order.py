"""What torch differentiates twice only in another form, put into that form for the length of a block.

Attention: the fused kernels have no double backward, MATH has. Weight normalisation: the double backward of the fused
kernel takes the norm for a constant, which gives wrong and unsymmetric Hessians without a word; written out,
w = v g / |v|, it is right.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextmanager
def differentiable_twice(model: nn.Module) -> Iterator[None]:
    """Run the model's attention and weight normalisation so that second derivatives exist and are right."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(name.endswith(("weight_g", "original0")) for name, _ in model.named_parameters()):
            stack.enter_context(_WeightNormWrittenOut())
        yield


class _WeightNormWrittenOut(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        function = _weight_norm if func == torch._weight_norm else func
        return function(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))
