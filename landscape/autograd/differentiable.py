"""What torch differentiates only in another form, put into that form for the length of a pass.

Twice. Attention: the fused kernels have no double backward, MATH has. Weight normalisation: the double backward of the
fused kernel takes the norm for a constant, which gives wrong and unsymmetric Hessians without a word; written out,
w = v g / |v|, it is right. Batch normalisation on stored statistics is one scale and one shift a channel; written so,
x s + b, its double backward is cheaper than the general one (ResNet-20, kept graphs, interleaved: 2.73 gradients a
product before, 2.24 after). cuDNN's recurrent layers have no double backward, and in eval mode no backward either.

Once. Embeddings: sparse gradients are dense ones, and `max_norm`, which writes into the weights under no_grad, is the
projection of the rows that are used, w min(1, max_norm / |w|). A compiled network is run as it is written: what
torch.compile makes of it has one derivative only.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]


@contextmanager
def differentiable(model: nn.Module, modules: Sequence[nn.Module] | None = None, *, twice: bool) -> Iterator[None]:
    """Run the model in forms whose derivatives exist and are right: first ones, or with `twice` second ones too."""
    modules = list(model.modules()) if modules is None else modules
    written_out: dict[Function, Function] = {}
    if any(isinstance(m, nn.Embedding | nn.EmbeddingBag) and (m.sparse or m.max_norm is not None) for m in modules):
        written_out |= {call: partial(_embedding, call) for call in (F.embedding, F.embedding_bag)}
    if twice and any(isinstance(m, _NormBase) for m in modules):
        written_out[F.batch_norm] = _batch_norm
    if twice and any(name.endswith(("weight_g", "original0")) for name, _ in model.named_parameters()):
        written_out[torch._weight_norm] = _weight_norm
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        if twice:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(m, nn.RNNBase) for m in modules):
            stack.enter_context(_without_cudnn())
        stack.callback(setattr, parametrize, "_cache_enabled", parametrize._cache_enabled)
        parametrize._cache_enabled = 0  # a cache holds weights that are not those in place
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if written_out:
            stack.enter_context(WrittenOut(written_out))
        yield


@contextmanager
def _without_cudnn() -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    found, cudnn.enabled = cudnn.enabled, False
    try:
        yield
    finally:
        cudnn.enabled = found


class WrittenOut(TorchFunctionMode):
    """Calls of some functions answered by others, also where a backward pass runs forward once more.

    torch switches a mode off within each function that the mode is told of, torch.autograd.grad among them.
    """

    def __init__(self, functions: Mapping[Function, Function]) -> None:
        super().__init__()
        self._functions = functions

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.autograd.grad:
            with self:
                return _GRAD(*args, **(kwargs or {}))
        return self._functions.get(func, func)(*args, **(kwargs or {}))


def _untold(function: Function) -> Function:
    """The same function, which tells no mode that it is called."""
    names = function.__globals__ | {"has_torch_function": lambda _: False}
    untold = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    untold.__kwdefaults__ = function.__kwdefaults__
    return untold


_GRAD = _untold(torch.autograd.grad)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


def _batch_norm(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    **settings: Any,
) -> Tensor:
    if settings.get("training") or mean is None or variance is None:
        return F.batch_norm(x, mean, variance, weight, bias, **settings)
    inverse = (variance + settings.get("eps", 1e-5)).rsqrt()
    scale = inverse if weight is None else weight * inverse
    shift = -mean * scale if bias is None else bias - mean * scale
    per_channel = [-1] + [1] * (x.ndim - 2)
    return (x * scale.view(per_channel) + shift.view(per_channel)).to(x.dtype)


def _embedding(call: Function, input: Tensor, weight: Tensor, **settings: Any) -> Tensor:
    """torch tells a mode of all but the first arguments by name."""
    max_norm = settings.pop("max_norm", None)
    if max_norm is not None:
        weight = _shortened(weight, input, max_norm, settings.get("norm_type", 2.0))
    found: Tensor = call(input, weight, **{**settings, "sparse": False})
    return found


def _shortened(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """The rows that are used no longer than max_norm, as torch rescales them: by max_norm / (|w| + 1e-7)."""
    lengths = torch.linalg.vector_norm(weight, norm_type, dim=1, keepdim=True)
    used = torch.zeros(len(weight), 1, dtype=torch.bool, device=weight.device).index_fill(0, input.flatten(), True)
    return torch.where(used & (lengths > max_norm), weight * (max_norm / (lengths + 1e-7)), weight)
