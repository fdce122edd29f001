"""Ten planted faults: each gives a wrong product in silence, and verification finds it.

All products are the second ones of operators that keep nothing, so that every evaluation is one of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import oracles
import pytest
import torch
from cases import Case
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

import landscape as ls
from landscape.autograd.fast_layers.maps import Linear

Activation = Callable[[Tensor], Tensor]


class OpaqueCube(torch.autograd.Function):
    """Backward goes through NumPy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.from_numpy(3 * ctx.saved_tensors[0].detach().numpy() ** 2) * g


class DetachedCube(OpaqueCube):
    """Backward takes its saved input out of the graph."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0].detach() ** 2 * g


class DataTanh(torch.autograd.Function):
    """Backward reads .data of the saved output, as hand-written kernels do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.addcmul(g, g, y.data.square(), value=-1)


class Slope(torch.autograd.Function):
    """3 x² g, with its derivative by x times a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x, g)
        ctx.factor = factor
        return 3 * x**2 * g

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor, Tensor, None]:
        x, g = ctx.saved_tensors
        return ctx.factor * 6 * x * g * u, 3 * x**2 * u, None


class FactorCube(OpaqueCube):
    """Only the second derivative is off, by a tenth."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return Slope.apply(ctx.saved_tensors[0], g, 1.1)


class ZeroCube(OpaqueCube):
    """The derivative of its backward by its input is zero."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return Slope.apply(ctx.saved_tensors[0], g, 0.0)


class BufferedCube(torch.autograd.Function):
    """Backward writes the slope into a buffer, in place, and reads it from there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, buffer: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.buffer = buffer
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        ctx.buffer.data.copy_(3 * ctx.saved_tensors[0].detach() ** 2)
        return g * ctx.buffer, None


class OnceSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * g


class OpaqueSquares(OpaqueCube):
    """Σ z², with a backward through NumPy."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.square().sum()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.from_numpy(2 * ctx.saved_tensors[0].detach().numpy()) * g


class Net(nn.Module):
    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.first, self.last, self.activation = nn.Linear(4, 5), nn.Linear(5, 3), activation

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.activation(self.first(x)))


class OwnNoise(nn.Module):
    """Times random numbers of a generator that no one else knows."""

    def __init__(self) -> None:
        super().__init__()
        self.source = torch.Generator().manual_seed(0)

    def forward(self, h: Tensor) -> Tensor:
        return h**3 * torch.rand(h.shape, dtype=h.dtype, generator=self.source)


class Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("slope", torch.zeros(12, 5))

    def forward(self, h: Tensor) -> Tensor:
        return BufferedCube.apply(h, self.slope)


def cube(h: Tensor) -> Tensor:
    return h**3


def first_noise(h: Tensor) -> Tensor:
    return h**3 * torch.rand(h.shape, dtype=h.dtype, generator=torch.Generator().manual_seed(0))


def squares(z: Tensor, _: Tensor) -> Tensor:
    return z.square().sum() / len(z)


def opaque_squares(z: Tensor, _: Tensor) -> Tensor:
    return OpaqueSquares.apply(z) / len(z)


@dataclass(frozen=True)
class Fault:
    """The faulty activation or criterion beside the right one; `silent`: without verification nobody notices."""

    make: Callable[[], Activation]
    plain: Activation
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    right_criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    ggn: bool = False
    silent: bool = True


FAULTS = {
    "opaque NumPy backward": Fault(lambda: OpaqueCube.apply, cube),
    "backward detaches its saved input": Fault(lambda: DetachedCube.apply, cube),
    "wrong factor in the second derivative": Fault(lambda: FactorCube.apply, cube),
    "data of a saved output": Fault(lambda: DataTanh.apply, torch.tanh),
    "once_differentiable, GGN": Fault(lambda: OnceSquare.apply, torch.square, ggn=True, silent=False),
    "double backward returns zeros": Fault(lambda: ZeroCube.apply, cube),
    "buffer written in backward": Fault(Buffered, cube),
    "random numbers of an own generator": Fault(OwnNoise, first_noise),
    "wrong shortcut": Fault(lambda: torch.tanh, torch.tanh),
    "opaque criterion, GGN": Fault(lambda: torch.tanh, torch.tanh, opaque_squares, squares, ggn=True),
}
OF_HESSIANS = [name for name, fault in FAULTS.items() if not fault.ggn]


@pytest.fixture(autouse=True)
def _shortcut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own derivative of a linear layer by its weight, off by a hundredth."""
    if "wrong shortcut" in request.node.name:
        right = Linear.by_weight
        monkeypatch.setattr(Linear, "by_weight", lambda *given: 1.01 * right(*given))


def posed(name: str) -> tuple[ls.Problem, Tensor, Tensor]:
    """The faulty problem, a vector v and the true product with it."""
    fault = FAULTS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, y = torch.randn(12, 4, dtype=torch.float64), torch.randint(3, (12,))
        plain, faulty = Net(fault.plain).double(), Net(fault.make()).double()
        v = torch.randn(43, dtype=torch.float64)
    faulty.load_state_dict(plain.state_dict(), strict=False)
    case = Case(plain, fault.right_criterion, x, y)
    true = (oracles.ggn if fault.ggn else oracles.hessian)(case) @ v
    return ls.Problem(faulty, fault.criterion, [(x, y)]), v, true


def off(name: str, **settings: Any) -> float:
    """The relative error of the second product."""
    problem, v, true = posed(name)
    operator = (ls.ggn if FAULTS[name].ggn else ls.hessian)(problem, memory=0, **settings)
    operator @ v
    return oracles.relative(operator @ v, true)


def right_or_refused(name: str, **settings: Any) -> str:
    """What is said where it is refused; an empty string where the product is right."""
    said = ""
    try:
        assert off(name, **settings) < 1e-5
    except ValueError as error:
        said = str(error)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_no_wrong_product(name: str) -> None:
    right_or_refused(name)


@pytest.mark.parametrize("name", OF_HESSIANS)
def test_a_mode_asked_for_by_name_raises(name: str) -> None:
    said = right_or_refused(name, mode="double_backward")
    assert said or name == "wrong shortcut"  # which double backward as torch has it stands in for


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.silent])
def test_without_verification_the_wrong_product_comes_back(name: str) -> None:
    assert off(name, verify=False) > 1e-3


@pytest.mark.parametrize("name", [name for name in OF_HESSIANS if name != "random numbers of an own generator"])
def test_differences_are_right(name: str) -> None:
    """Asked for by name: first derivatives are not touched by these faults."""
    assert off(name, mode="central_differences") < 1e-5


def test_there_are_ten_faults() -> None:
    assert len(FAULTS) == 10
