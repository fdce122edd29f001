"""Activations that are computed anew: of a chosen module a product holds the inputs, and its graph while it is used.

torch.utils.checkpoint gives a gradient in that memory, but the graph of a gradient keeps all that was computed anew. So
the call of a module becomes a function that keeps what goes in alone, see `called_anew.py`.
"""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, update_wrapper
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._pytree import tree_flatten

from landscape.autograd.differentiable import WrittenOut
from landscape.autograd.precision import autocast_now
from landscape.checks import require
from landscape.problem.called_anew import NO_FORWARD, Call, Values, require_of
from landscape.problem.placement import FollowedWrites
from landscape.side_effects import random_state

Selection = Sequence[str] | Callable[[str, nn.Module], bool]

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, slice)


def modules_chosen(model: nn.Module, recompute: Selection | None) -> list[str]:
    """Names of the chosen modules, each once, in the order of `named_modules()`.

    Args:
        model: any module.
        recompute: None for none, a list of names, or a predicate on (name, module).
    Raises:
        ValueError: if a name is unknown, nothing is chosen, or a chosen module is TorchScript.
    """
    if recompute is None:
        return []
    own = dict(model.named_modules())
    if callable(recompute):
        names = [name for name, module in own.items() if recompute(name, module)]
    else:
        aliases = dict(model.named_modules(remove_duplicate=False))
        unknown = [name for name in recompute if name not in aliases]
        require(not unknown, f"recompute must name modules of the model, got {unknown}; it has {list(own)[1:6]} ...")
        wanted = {id(aliases[name]) for name in recompute}
        names = [name for name, module in own.items() if id(module) in wanted]
    require(bool(names), f"recompute must choose a module, got none; the model has {list(own)[1:6]} ...")
    scripted = [name for name in names if isinstance(own[name], torch.jit.ScriptModule)]
    require(not scripted, f"recompute must choose modules of Python, got TorchScript {scripted[:3]}")
    return names


@contextmanager
def recomputed(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Within the block these modules keep their inputs alone for derivatives."""
    with ExitStack() as stack:
        for name in names:
            module: Any = model.get_submodule(name)
            stack.callback(_put_forward_back, module, vars(module).get("forward"))
            module.forward = update_wrapper(partial(_called, name, module, module.forward), module.forward)
        yield


def _put_forward_back(module: Any, own: Any) -> None:
    if own is None:
        del module.forward
    else:
        module.forward = own


def _called(name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The module's outputs; under a gradient as a function that keeps no more than what goes in."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise NotImplementedError(NO_FORWARD)
    slots: dict[int, tuple[Tensor, list[tuple[MutableMapping[str, Any], str]]]] = {}
    for own in module.modules():
        for key, tensor in own._parameters.items():
            if tensor is not None and tensor.requires_grad:
                slots.setdefault(id(tensor), (tensor, []))[1].append((own._parameters, key))
    leaves, inputs = tree_flatten((args, kwargs))
    strange = sorted({type(leaf).__name__ for leaf in leaves if not isinstance(leaf, (Tensor, *PLAIN))})
    modes = _get_current_function_mode_stack()
    require_of(not strange, name, f"takes {', '.join(strange)}, which it may change; for a cache pass use_cache=False")
    require_of(
        not any(isinstance(mode, FollowedWrites) for mode in modes),
        name,
        "writes into its weights, or another one does",
    )
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
    tensors = [leaves[i] for i in places] + [tensor for tensor, _ in slots.values()]
    if not tensors:
        return forward(*args, **kwargs)
    others: list[Any] = [None if i in set(places) else leaf for i, leaf in enumerate(leaves)]
    function = Call(
        name,
        module,
        forward,
        [places for _, places in slots.values()],
        others,
        places,
        inputs,
        random_state(),
        autocast_now(tensors[0].device.type),
        [mode for mode in modes if isinstance(mode, WrittenOut)],
    )
    values: Sequence[Tensor] = Values.apply(function, *tensors)  # type: ignore[no-untyped-call]
    return function.outputs(values)
