"""What `interleaved.py` measures: calls that take turns and the numbers made of their seconds, a function a section."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from contenders import Answer, curvlinops_eigenvalues, ours_eigenvalues, pyhessian_eigenvalues
from setting import Config, Setting, plain_cnn, trained

import landscape as ls

Call = Callable[[], Any]
SMALL = (8, 16, 16)  # channels of the small plain network
COLUMNS = 4  # of a block
POINTS = 21  # along each axis of the grid


@dataclass(frozen=True)
class Number:
    """A number of one round, made of its calls' seconds.

    Attributes:
        call: of ours, which is also compared with an earlier version's.
        value: from the seconds of the round.
        bound: that it should keep; negative where it should be at least so large.
        unit: in words.
    """

    call: str
    value: Callable[[Mapping[str, float]], float]
    bound: float | None = None
    unit: str = "gradients"


@dataclass(frozen=True)
class Section:
    """Calls that take turns. Those of `ours` are measured in an earlier version as well.

    Attributes:
        numbers: by name.
        ours: calls that use this package.
        others: those that do not.
        repeats: rounds, after one to warm up.
        exact: leading eigenvalues that the answers are compared with, found when it is called.
    """

    numbers: dict[str, Number]
    ours: dict[str, Call]
    others: dict[str, Call] = field(default_factory=dict)
    repeats: int = 9
    exact: Callable[[], list[float]] | None = None


def over(call: str, unit: str = "gradient", share: int = 1) -> Callable[[Mapping[str, float]], float]:
    """Seconds of a call, by its `share` equal parts, over those of another."""
    return lambda spent: spent[call] / spent[unit] / share


def grid(config: Config) -> Section:
    """The walk over a plane against the forward passes that no way can spare."""
    setting = plain_cnn(config)
    problem = setting.problem
    d1, d2 = ls.random_directions(problem)
    span = (-1.0, 1.0, POINTS)
    return Section(
        {
            "a point of the grid": Number("walk", over("walk", "passes"), 1.2, "bare forward passes"),
            "milliseconds a point": Number("walk", lambda spent: 1e3 * spent["walk"] / POINTS**2, unit="ms"),
            "milliseconds of bare passes": Number("walk", lambda spent: 1e3 * spent["passes"] / POINTS**2, unit="ms"),
        },
        {"walk": lambda: ls.slice_2d(problem, d1, d2, span, span, progress=False)},
        {"passes": partial(_passes, setting, problem.layout.unflatten(d1), problem.layout.unflatten(d2))},
        repeats=5,
    )


def product(setting: Setting, bound: float | None) -> Section:
    """A product from kept graphs, alone and among four in a block, and what the first one costs beyond that."""
    H, blocked = ls.hessian(setting.problem), ls.hessian(setting.problem)
    source = torch.Generator().manual_seed(0)
    V = torch.randn(setting.size, COLUMNS, generator=source).to(H.device)
    v = V[:, 0].contiguous()
    H.matvec(v)
    blocked.matmat(V)
    return Section(
        {
            "product": Number("product", over("product"), bound),
            "a column among four": Number("block", over("block", share=COLUMNS), 1.15),
            "choosing a mode": Number(
                "first",
                lambda spent: (spent["first"] - spent["product"] - spent["graph"]) / spent["product"],
                1.0,
                "products",
            ),
        },
        {
            "product": lambda: H.matvec(v),
            "block": lambda: blocked.matmat(V),
            "first": lambda: ls.hessian(setting.problem).matvec(v),
        },
        {"gradient": setting.gradient, "graph": partial(_graph, setting)},
        repeats=15,
    )


def top(setting: Setting, bound: float | None) -> Section:
    """Ten eigenpairs to 1e-3 at the defaults, and the other packages'."""
    return Section(
        {
            "top 10": Number("ours", over("ours"), bound),
            "PyHessian over ours": Number("ours", over("PyHessian", "ours"), -8.5, "times"),
            "curvlinops over ours": Number("ours", over("curvlinops", "ours"), -2.3, "times"),
        },
        {"ours": lambda: ours_eigenvalues(setting, 0)},
        {
            "gradient": setting.gradient,
            "PyHessian": lambda: pyhessian_eigenvalues(setting, 0),
            "curvlinops": lambda: curvlinops_eigenvalues(setting, 0),
        },
        repeats=3,
        exact=partial(_exact, setting),
    )


def estimates(config: Config) -> Section:
    """Trace and density at the defaults: 60 products, and 8 × 64."""
    setting = plain_cnn(config)
    return Section(
        {
            "trace": Number("trace", over("trace")),
            "seconds of the trace": Number("trace", lambda spent: spent["trace"], unit="s"),
            "density": Number("density", over("density")),
            "seconds of the density": Number("density", lambda spent: spent["density"], unit="s"),
        },
        {
            "trace": lambda: _counted(ls.trace(ls.hessian(setting.problem))),
            "density": lambda: _counted(ls.spectral_density(ls.hessian(setting.problem))),
        },
        {"gradient": setting.gradient},
        repeats=3,
    )


SECTIONS: dict[str, Callable[[Config], Section]] = {
    "grid": grid,
    "resnet": lambda config: product(trained(config), 2.0),
    "cnn": lambda config: product(plain_cnn(config), 2.1),
    "small-cnn": lambda config: product(plain_cnn(config, SMALL), 2.1),
    "top": lambda config: top(plain_cnn(config), 44.0),
    "small-top": lambda config: top(plain_cnn(config, SMALL), 44.0),
    "estimates": estimates,
}


@torch.no_grad()
def _passes(setting: Setting, d1: list[torch.Tensor], d2: list[torch.Tensor]) -> None:
    """Weights into place by hand and each batch through the network, once a point."""
    own = [p.clone() for p in setting.parameters]
    steps = torch.linspace(-1, 1, POINTS).tolist()
    for y in steps:
        for x in steps:
            for p, w, across, up in zip(setting.parameters, own, d1, d2, strict=True):
                p.copy_(w + x * across + y * up)
            for inputs, targets in setting.batches:
                setting.criterion(setting.model(inputs), targets)
    for p, w in zip(setting.parameters, own, strict=True):
        p.copy_(w)


def _graph(setting: Setting) -> list[Any]:
    """The gradients' graphs of all batches, as torch builds them."""
    losses = [setting.criterion(setting.model(x), t) for x, t in setting.batches]
    return [torch.autograd.grad(loss, setting.parameters, create_graph=True) for loss in losses]


def _exact(setting: Setting) -> list[float]:
    """Leading eigenvalues in float64, each within 1e-8 of one of the Hessian's."""
    exact = setting.double()
    pairs = ls.top_eigenpairs(ls.hessian(exact.problem), setting.config.k, tol=1e-8)
    return list(pairs.values.tolist())


def _counted(found: Any) -> Answer:
    return Answer([], found.matvecs)
