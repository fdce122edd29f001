"""Which of a network's parameters make up the vector w."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from landscape.checks import require

Selection = Sequence[str] | Callable[[str, Tensor], bool]


def selected(model: nn.Module, parameters: Selection | None) -> list[str]:
    """Names of the chosen parameters in the order of `named_parameters()`, a tied one once, under its first name.

    Args:
        model: any module.
        parameters: None for all that require grad, a list of names, or a predicate on (name, parameter).
    Raises:
        ValueError: if a name is unknown, a chosen parameter is complex, none is chosen, or a device map has put them on
            several devices or out of memory.
    """
    own = dict(model.named_parameters())
    lazy = [name for name, p in own.items() if isinstance(p, UninitializedParameter)]
    require(not lazy, f"parameters must have a shape, got lazy {lazy}; run the model on one batch first")
    away = [name for name, p in own.items() if p.is_meta]
    require(
        not away,
        f"parameters must be in memory, got {away[:3]} on the meta device, as a device_map that offloads leaves them; "
        "load the model whole, onto one device",
    )
    if parameters is None:
        names = [name for name, p in own.items() if p.requires_grad]
    elif callable(parameters):
        names = [name for name, p in own.items() if parameters(name, p)]
    else:
        aliases = dict(model.named_parameters(remove_duplicate=False))
        unknown = [name if isinstance(name, str) else type(name).__name__ for name in parameters if name not in aliases]
        require(
            not unknown,
            f"parameters must be names of the model's parameters, got {unknown}; it has {list(own)[:5]} ...",
        )
        wanted = {id(aliases[name]) for name in parameters}
        names = [name for name, p in own.items() if id(p) in wanted]
    complex_valued = [name for name in names if own[name].is_complex()]
    require(not complex_valued, f"parameters must be real, got complex {complex_valued}; use torch.view_as_real")
    devices = sorted({str(own[name].device) for name in names})
    require(
        len(devices) <= 1,
        f"the chosen parameters must lie on one device, got {', '.join(devices)}, as a device_map leaves them; "
        "load the model onto one, or choose by parameters=",
    )
    require(
        bool(names),
        "the model must have at least one trainable parameter, got none; set requires_grad_() or pass parameters=",
    )
    return names
