"""Small float64 problems in 60 + 4 samples, one for each way in which users' networks and losses differ."""

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from landscape.linalg.operator import CurvatureOperator, MatrixOperator
from landscape.problem import Problem

SPLIT = (60, 4)


@dataclass(frozen=True)
class Case:
    model: nn.Module
    criterion: Callable[[Any, Any], Tensor]
    inputs: Any  # all 64 samples: a tensor or a dict of tensors
    targets: Tensor
    forward: Callable[[nn.Module, Any], Tensor] | None = None
    weight: Callable[[Any, Any], int | Tensor] | None = None
    cubic: float = 0.0  # c of a term c Σ w³ that the criterion reads off the model

    @property
    def batches(self) -> list[tuple[Any, Tensor]]:
        if isinstance(self.inputs, dict):
            columns = {key: value.split(SPLIT) for key, value in self.inputs.items()}
            inputs = [{key: column[i] for key, column in columns.items()} for i in range(len(SPLIT))]
        else:
            inputs = list(self.inputs.split(SPLIT))
        return list(zip(inputs, self.targets.split(SPLIT), strict=True))

    def problem(self, **settings: Any) -> Problem:
        given = {"forward": self.forward, "weight": self.weight, **settings}
        return Problem(self.model, self._with_cubic(), given.pop("data", self.batches), **given)

    def _with_cubic(self) -> Callable[[Any, Any], Tensor]:
        if self.cubic == 0:
            return self.criterion
        return lambda z, t: self.criterion(z, t) + self.cubic * sum((p**3).sum() for p in self.model.parameters())


def make(name: str) -> Case:
    """The case of that name, made anew with the same numbers; some modules train, others do not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        case = BUILDERS[name]()
    case.model.double()
    for i, module in enumerate(case.model.modules()):
        module.training = i % 2 == 0
    return replace(case, inputs=_double(case.inputs), targets=_double(case.targets))


def _double(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _double(value) for key, value in part.items()}
    return part.double() if part.is_floating_point() else part


def mlp() -> Case:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    return Case(model, F.cross_entropy, torch.randn(64, 4), torch.randint(3, (64,)))


def conv_bn() -> Case:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(27, 4), nn.BatchNorm1d(4)
    )
    for layer in (model[1], model[5]):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2.0)
        nn.init.uniform_(layer.weight, 0.5, 1.5)
    return Case(model, F.cross_entropy, torch.randn(64, 1, 5, 5) + 0.5, torch.randint(4, (64,)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.MultiheadAttention(4, 2, batch_first=True)
        self.qkv = nn.Linear(4, 12)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x, x, x, need_weights=False)[0]
        q, k, v = self.qkv(x).unflatten(2, (2, 6)).transpose(1, 2).chunk(3, dim=-1)
        x = x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(x.mean(1))


def attention() -> Case:
    return Case(Attention(), F.cross_entropy, torch.randn(64, 3, 4), torch.randint(3, (64,)))


def regression() -> Case:
    model = nn.Sequential(nn.Linear(4, 5), nn.Softplus(), nn.Linear(5, 2))
    return Case(model, nn.MSELoss(), torch.randn(64, 4), torch.randn(64, 2))


def bce() -> Case:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    return Case(model, F.binary_cross_entropy_with_logits, torch.randn(64, 4), torch.randint(2, (64, 2)).float())


def tied() -> Case:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 7, bias=False))
    model[3].weight = model[0].weight
    return Case(model, F.cross_entropy, torch.randint(7, (64,)), torch.randint(7, (64,)))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(4, 5).requires_grad_(False)
        self.unused = nn.Linear(3, 2)
        self.head = nn.Sequential(nn.Tanh(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.frozen(x))


def frozen_unused() -> Case:
    return Case(Unused(), F.cross_entropy, torch.randn(64, 4), torch.randint(3, (64,)))


def dropout() -> Case:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 5), nn.Dropout(0.5), nn.Tanh(), nn.Linear(5, 3))
    return Case(model, F.cross_entropy, torch.randn(64, 4), torch.randint(3, (64,)))


def tokens() -> Case:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5))
    targets = torch.randint(5, (64, 3))
    targets[torch.rand(64, 3) < 0.4] = -1
    targets[60:, 1:] = -1
    targets[:, 0] = targets[:, 0].clamp(min=0)
    return Case(
        model,
        lambda z, t: F.cross_entropy(z.flatten(0, 1), t.flatten(), ignore_index=-1),
        torch.randint(5, (64, 3)),
        targets,
        weight=lambda _, t: (t != -1).sum(),
    )


class Mapping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(6, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(torch.tanh(self.embed(ids) * mask[..., None]).sum(1))}


def mapping() -> Case:
    inputs = {"ids": torch.randint(6, (64, 3)), "mask": torch.randint(2, (64, 3)).float()}
    return Case(
        Mapping(), F.cross_entropy, inputs, torch.randint(3, (64,)), forward=lambda model, x: model(**x)["logits"]
    )


def class_weights() -> Case:
    weights = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    case = mlp()
    return replace(case, criterion=nn.CrossEntropyLoss(weight=weights), weight=lambda _, t: weights[t].sum())


def weight_term() -> Case:
    return replace(mlp(), cubic=0.05)


def parametrized() -> Case:
    model = nn.Sequential(weight_norm(nn.Linear(4, 5)), nn.Tanh(), spectral_norm(nn.Linear(5, 3)))
    return Case(model, F.cross_entropy, torch.randn(64, 4), torch.randint(3, (64,)))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 4), nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.layer(torch.tanh(self.layer(x)))


def twice() -> Case:
    return Case(Twice(), F.cross_entropy, torch.randn(64, 4), torch.randint(4, (64,)))


class Recurrent(nn.Module):
    def __init__(self, inputs: int = 2, classes: int = 2) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(inputs, 3, batch_first=True), nn.Linear(3, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class LoRA(nn.Module):
    """(W + B A) x with W fixed and B = 0, as at the start of training."""

    def __init__(self, inputs: int = 4, hidden: int = 5) -> None:
        super().__init__()
        self.base, self.head = (
            nn.Linear(inputs, hidden).requires_grad_(False),
            nn.Linear(hidden, 3).requires_grad_(False),
        )
        self.A, self.B = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.zeros(hidden, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.base(x) + x @ self.A.T @ self.B.T))


def lstm() -> Case:
    return Case(Recurrent(), F.cross_entropy, torch.randn(64, 3, 2), torch.randint(2, (64,)))


BUILDERS = {
    builder.__name__: builder
    for builder in (
        mlp,
        conv_bn,
        attention,
        regression,
        bce,
        tied,
        frozen_unused,
        dropout,
        tokens,
        mapping,
        class_weights,
        weight_term,
        parametrized,
        twice,
        lstm,
    )
}
NAMES = tuple(BUILDERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Record(list[Any]):
    """What a module notes of its forward passes: a plain list of the module's own would be put back."""


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def symmetric(values: Tensor, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    q = torch.linalg.qr(normal(len(values), len(values), seed=seed))[0]
    matrix = q @ torch.diag(values.double()) @ q.T
    return (matrix + matrix.T) / 2


class KilledError(Exception):
    """What ends a run that goes on from a file."""


class Counting(CurvatureOperator):
    """A matrix that counts its products, likes `columns` of them at once and dies before it gives more than `life`."""

    columns = 1
    death: type[BaseException] = KilledError

    def __init__(self, matrix: Tensor, *, columns: int = 1, life: float = math.inf) -> None:
        super().__init__(len(matrix), matrix.dtype, matrix.device)
        self.inner, self.count, self.columns, self.life = MatrixOperator(matrix), 0, columns, life
        self.matrix, self.widths = matrix, []  # the columns of each pass

    def _product(self, block: Tensor) -> Tensor:
        if self.count + block.shape[1] > self.life:
            raise self.death
        self.count += block.shape[1]
        self.widths.append(block.shape[1])
        return self.inner.matmat(block)


def everything(model: nn.Module, *generators: torch.Generator) -> list[Any]:
    """All that a call must leave as it was, copied."""
    return copy.deepcopy(
        [
            [(name, p.detach(), p.requires_grad, p.grad) for name, p in model.named_parameters()],
            list(model.named_buffers()),
            [module.training for module in model.modules()],
            [len(module._forward_pre_hooks) for module in model.modules()],
            [torch.get_rng_state(), random.getstate(), list(np.random.get_state())],
            [generator.get_state() for generator in generators],
            torch.backends.mha.get_fastpath_enabled(),
            [torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()],
        ]
    )


def same(a: Any, b: Any) -> bool:
    """Equal to the bit."""
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
