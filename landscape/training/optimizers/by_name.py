"""Optimisers of other libraries and of the user's own code, by name.

Such a one is tried on a small network when its name is read: it must step along `.grad`, and go on from its saved state
to the bit, so that a killed run does.
"""

import io
from collections.abc import Callable, Mapping
from copy import deepcopy
from inspect import signature
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from landscape.checks import first_line, require
from landscape.problem.plugin import named_function
from landscape.side_effects import random_state_kept
from landscape.training.sharpness_aware.copies import attributes_of
from landscape.training.sharpness_aware.wrapper import require_base

CLASSES = "FILE.py:CLASS or PACKAGE.MODULE:CLASS"
KEPT = "pytorch_optimizer"  # LARS, Lamb, AdamMini, ...
Make = Callable[[nn.Module], torch.optim.Optimizer]
STEPS = 3  # before and after the saving


def named_optimizer(
    name: str, model: nn.Module, lr: float, weight_decay: float, settings: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """The optimiser of the model's parameters; one that asks for the model itself (AdamMini) gets it.

    Args:
        name: one of CLASSES, or a function that makes an optimiser.
        model: owns the parameters.
        lr, weight_decay: given to it, the latter where it is not 0 or the class has it.
        settings: its other arguments.
    Raises:
        ValueError: if there is no such class, it does not take a setting, or it makes no torch.optim.Optimizer.
        ImportError: if the library that is an extra is not there.
    """
    make = _class(name)
    arguments = signature(make).parameters.values()
    first, *known = [item.name for item in arguments if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)] or [
        ""
    ]
    decay = {"weight_decay": weight_decay} if weight_decay or "weight_decay" in known else {}
    given = {"lr": lr, **decay, **settings}
    unknown = ", ".join(sorted(given.keys() - set(known)))
    hint = "; weight_decay=0 leaves it out" if unknown == "weight_decay" else ""
    require(not unknown, f"base_settings, lr and weight_decay must fit {name!r}, which has no {unknown}{hint}")
    try:
        made = make(model if first == "model" else model.parameters(), **given)
    except Exception as error:  # whatever another library says
        raise ValueError(
            f"base {name!r} cannot be made with {given}: {first_line(error)}; a FILE.py:FUNCTION of yours may make it"
        ) from error
    require(isinstance(made, torch.optim.Optimizer), f"base {name!r} must make an optimiser, got {type(made).__name__}")
    return made


def try_out(name: str, make: Make) -> None:
    """Raises ValueError unless the optimiser that `make` gives can train a network and go on with it."""
    with random_state_kept():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(3, 4, device="cpu"), nn.LayerNorm(4, device="cpu"), nn.Linear(4, 2, device="cpu")
        )
        optimizer = stepped(name, make, model)
        rates = {group["lr"] for group in optimizer.param_groups}
        require(len(rates) == 1, f"base {name!r} must have one lr for all groups, which the trainer sets, got {rates}")
        require(
            not hasattr(optimizer, "eval"), f"base {name!r} has train() and eval(), which the trainer does not call"
        )
        twin = deepcopy(model)
        try:
            other = make(twin)
            other.load_state_dict(_through_a_file(optimizer.state_dict()))
            for each, own in ((model, optimizer), (twin, other)):
                _steps(each, own, seed=2)
            same = all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
            reason = "" if same and _numbers(optimizer) == _numbers(other) else "it keeps more than its state_dict"
        except UnpicklingError:
            reason = "it holds more than tensors and plain values"
        except Exception as error:
            reason = first_line(error)
    require(not reason, f"base {name!r} cannot go on from its saved state: {reason}; take another one")


def stepped(name: str, make: Make, model: nn.Module) -> torch.optim.Optimizer:
    """What `make` gives, after some steps along random gradients. Raises ValueError if it cannot make them."""
    with random_state_kept():
        optimizer = make(model)
        require_base(optimizer)
        try:
            _steps(model, optimizer, seed=1)
        except Exception as error:
            raise ValueError(
                f"base {name!r} must step along .grad, got on these weights: {first_line(error)}"
            ) from error
    return optimizer


def _class(name: str) -> Callable[..., Any]:
    try:
        make = named_function("base", name)
    except ValueError as error:
        if name.startswith(KEPT) and isinstance(error.__cause__, ModuleNotFoundError):
            raise ImportError(f"base {name} needs {KEPT}; pip install 'landscape-toolkit[optimizers]'") from error
        raise
    kind = not isinstance(make, type) or issubclass(make, torch.optim.Optimizer)
    require(kind, f"base must be a torch.optim.Optimizer, got {name!r}, which is none")
    return make


def _steps(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    for _ in range(STEPS):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        optimizer.step()


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def _numbers(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What it counts outside its state."""
    return {name: value for name, value in attributes_of(optimizer).items() if isinstance(value, int | float | str)}
