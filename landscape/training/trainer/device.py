"""Where a training runs and in which precision."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from landscape.autograd.allocator import free_bytes
from landscape.checks import require
from landscape.data import Images, Lazy
from landscape.problem import Problem

PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
DEVICES = ("auto", "cpu", "cuda", "mps")
SHARE = 4  # the data lie on the device where they take at most this part of its free memory


def device_of(name: str) -> torch.device:
    """The device of that name. Raises ValueError, in one line, where this machine has none."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    kind, _, number = name.partition(":")
    require(
        kind in there and number.isdecimal() == (":" in name),
        f"device must be one of {DEVICES} or cuda:N, got {name!r}",
    )
    enough = kind != "cuda" or int(number or 0) < torch.cuda.device_count()
    require(
        there[kind] and enough,
        f"device={name!r} is not on this machine; take device='auto' or 'cpu', with the same folder to go on there",
    )
    return torch.device(name)


def curvature_device(name: str) -> torch.device:
    """The device of that name for curvature and losses, which are summed in float64: auto is never mps, which has none.

    Raises:
        ValueError: as `device_of`, and for mps.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = device_of(name)
    require(place.type != "mps", "device='mps' has no float64, in which curvature and losses are summed; take 'cpu'")
    return place


def move(problem: Problem, place: torch.device) -> Problem:
    """The same problem, its model and what its criterion holds on that device; the data follow batch by batch."""
    problem.model.to(place)
    if isinstance(problem.criterion, nn.Module):
        problem.criterion.to(place)
    return problem


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Forward passes in the precision; parameters and gradients stay float32."""
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "float32")


def scaler_for(device: torch.device, precision: str) -> torch.amp.GradScaler | None:
    """For fp16, whose gradients would vanish."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def placed(data: Images | Lazy, device: torch.device, workers: int = 0, steps: int = 0) -> Images | Lazy:
    """The data on the device, where there is room; else pinned, and each batch goes there by itself.

    What is read lazily is read by so many workers, a training stream `steps` batches long.
    """
    if isinstance(data, Lazy):
        return data.read_by(workers, pinned=device.type == "cuda", steps=steps)
    if device.type == "cpu":
        return data
    names = ("train_inputs", "train_targets", "test_inputs", "test_targets", "clean_targets")
    tensors: dict[str, Any] = {name: getattr(data, name) for name in names}
    room = sum(tensor.nbytes for tensor in tensors.values()) * SHARE <= free_bytes(device)
    for name, tensor in tensors.items():
        tensors[name] = tensor.to(device) if room else tensor.pin_memory()
    return replace(data, **tensors)


def place_of(model: nn.Module) -> torch.device:
    """Where the model's weights are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
