"""What a record of the zoo of small networks says; the records themselves are in the files kinds_*.py."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

QUANTITIES = ("gradient", "slice", "hessian", "ggn", "empirical")


class Draws:
    """A network's random numbers: drawn by torch and noted under the batch they belong to, or given once more.

    So an oracle evaluates the very function that the library chose. Draws of one batch must always be the same.
    """

    def __init__(self) -> None:
        self.seen: dict[float, list[Tensor]] = {}
        self.given = False  # the noted ones in place of new ones

    def __deepcopy__(self, memo: Any) -> "Draws":
        return self

    def __call__(self, x: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """`draw()` for the batch of inputs `x`."""
        known = self.seen.setdefault(float(x.sum()), [])
        if self.given:
            return known[0]
        known.append(draw().detach().clone())
        return known[-1].clone()

    @property
    def differing(self) -> list[float]:
        """The batches that have seen more than one draw."""
        return [key for key, known in self.seen.items() if any(not torch.equal(one, known[0]) for one in known)]


@dataclass
class Network:
    """A network with criterion and data. `plain` (model, forward) is the same function in plain torch, in float64."""

    model: nn.Module
    criterion: Callable[[Any, Any], Tensor]
    batches: list[tuple[Any, Any]]
    forward: Callable[[nn.Module, Any], Any] | None = None
    weight: Callable[[Any, Any], int | Tensor] | None = None
    plain: tuple[nn.Module, Callable[[nn.Module, Any], Any] | None] | None = None
    draws: Draws | None = None
    step: float = 1e-3  # of the oracle's differences


@dataclass(frozen=True)
class Kind:
    """A kind of network and what the library makes of it.

    Attributes:
        name: as in the table of docs/trust.md.
        make: builds the network.
        refused: quantity to a word of the ValueError that says why; what is not named is right.
        note: the sentence of the table: why it is refused, or what must be known.
        tolerance: relative, of products and gradients.
        kinks: a difference may decide nothing, so that `verified` is None.
    """

    name: str
    make: Callable[[], Network]
    refused: dict[str, str] = field(default_factory=dict)
    note: str = ""
    tolerance: float = 1e-6
    kinks: bool = False

    def build(self) -> Network:
        """The network, anew, with the same numbers each time; modules in the state of training, if it has one."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch and others announce or no longer advise
            torch.manual_seed(0)
            return self.make()


KINDS: dict[str, Kind] = {}


def kind(name: str, **expected: Any) -> Callable[[Callable[[], Network]], Callable[[], Network]]:
    """Put the builder that follows into the zoo."""

    def register(make: Callable[[], Network]) -> Callable[[], Network]:
        KINDS[name] = Kind(name, make, **expected)
        return make

    return register


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def labels(count: int, classes: int = 3) -> Tensor:
    return torch.randint(classes, (count,))


def generic(model: nn.Module, size: float = 0.3) -> nn.Module:
    """In float64, with every parameter moved at random: no bias is 0, no scale 1."""
    for p in model.double().parameters():
        p.data += size * torch.randn_like(p)
    return model
