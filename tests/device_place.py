"""A network and its data on a device, and the numbers in what a function gives."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import landscape as ls

CPU = torch.device("cpu")  # named: the default device may be another
DOUBLE = {"dtype": torch.float64, "device": CPU}
CLOCK = {"seconds", "details", "gradient_times", "cost", "shared", "left_out"}  # fields that hold times, or words


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


@dataclass(eq=False)
class Place:
    """A network of 148 parameters and 24 samples on a device."""

    device: torch.device
    folder: Path

    def __post_init__(self) -> None:
        self.model, self.other = (self.network(seed) for seed in (0, 1))
        x = drawn(24, 1, 5, 5).to(self.device)
        t = torch.randint(4, (24,), generator=torch.Generator().manual_seed(1), device=CPU).to(self.device)
        self.data = list(zip(x.split(16), t.split(16), strict=True))
        self.problem = ls.Problem(self.model, cross_entropy, self.data)
        self.v, self.V = drawn(148, seed=2).to(self.device), drawn(148, 5, seed=3).to(self.device)
        self.convex = ls.MatrixOperator(self.V @ self.V.T + torch.eye(148, **DOUBLE).to(self.device))

    def network(self, seed: int) -> nn.Module:
        layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)]
        model = nn.Sequential(*layers).double()
        for i, p in enumerate(model.parameters()):
            p.data = 0.5 * drawn(*p.shape, seed=10 * seed + i)
        return model.to(self.device).eval()

    @property
    def H(self) -> ls.CurvatureOperator:  # noqa: N802
        return ls.hessian(self.problem)

    def steps(self, optimizer: Any, count: int = 2) -> list[Tensor]:
        """The weights after some steps on the first batch."""
        x, t = self.data[0]

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(self.model(x), t)
            loss.backward()
            return loss

        for _ in range(count):
            optimizer.step(closure)
        return list(self.model.parameters())

    def recorded(self) -> ls.Recorder:
        recorder = ls.Recorder(self.model, self.folder / "snapshots", every=1)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        for _ in range(3):
            self.steps(optimizer, 1)
            recorder.step()
        return recorder


def numbers(found: Any) -> list[Tensor]:
    """All numbers in a result."""
    if isinstance(found, Tensor):
        return [found.detach()]
    if isinstance(found, bool | int | float):
        return [torch.tensor(float(found), **DOUBLE)]
    if isinstance(found, ls.EigenPairs):
        return [found.values, found.vectors.abs()]
    if isinstance(found, Mapping):
        return [number for value in found.values() for number in numbers(value)]
    if isinstance(found, list | tuple):
        return [number for value in found for number in numbers(value)]
    if is_dataclass(found):
        return [n for item in fields(found) if item.name not in CLOCK for n in numbers(getattr(found, item.name))]
    return []
