"""What one product with the Hessian costs, how that grows with the data, and what Lanczos adds to it."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from measure import interleaved
from setting import Config, Setting, perceptron, resnet20, trained
from torch import Tensor

import landscape as ls
from landscape.linalg.operator import CurvatureOperator

Call = Callable[[], Any]


def _kept(setting: Setting) -> Call:
    """From the graphs that the first product leaves behind."""
    H, v = ls.hessian(setting.problem), _vector(setting)
    H.matvec(v)
    return lambda: H.matvec(v)


def _fresh(setting: Setting) -> Call:
    H, v = ls.hessian(setting.problem, memory=0), _vector(setting)
    return lambda: H.matvec(v)


def _plain(setting: Setting) -> Call:
    v = _vector(setting)
    return lambda: setting.double_backward(v)


PRODUCTS: dict[str, Callable[[Setting], Call]] = {
    "gradient": lambda setting: setting.gradient,
    "plain double backward": _plain,
    "ours, graphs kept": _kept,
    "ours, nothing kept": _fresh,
}


def cost(setting: Setting, repeats: int) -> dict[str, float]:
    """Seconds of a gradient and of each kind of product."""
    return interleaved({name: make(setting) for name, make in PRODUCTS.items()}, repeats)


def costs(config: Config) -> dict[str, dict[str, float]]:
    """`cost` on the digits network and on ResNet-20."""
    settings = {"digits network": trained(config)}
    if config.resnet20_images:
        settings["ResNet-20"] = resnet20(config)
    return {name: cost(setting, config.repeats) for name, setting in settings.items()}


def doubling(config: Config) -> dict[str, float]:
    """Time of a product on twice the data over that on the data, with and without kept graphs."""
    once, twice = trained(config), trained(config, copies=2)
    ratios = {}
    for name in ("ours, graphs kept", "ours, nothing kept"):
        make = PRODUCTS[name]
        found = interleaved({"once": make(once), "twice": make(twice)}, 2 * config.repeats)
        ratios[name] = found["twice"] / found["once"]
    return ratios


def lanczos_share(config: Config) -> list[dict[str, float]]:
    """For each size the seconds of an eigenpair run inside and outside its products."""
    rows = []
    for size in config.sizes:
        setting = perceptron(config, size)
        H = Timed(ls.hessian(setting.problem))
        began = perf_counter()
        pairs = ls.top_eigenpairs(H, config.k, tol=config.tol, max_matvecs=30)
        total = perf_counter() - began
        rows.append(
            {
                "parameters": setting.size,
                "matvecs": pairs.matvecs,
                "product_seconds": H.seconds,
                "other_seconds": total - H.seconds,
                "other_over_products": (total - H.seconds) / H.seconds,
            }
        )
    return rows


class Timed(CurvatureOperator):
    """An operator that adds up the seconds in its products."""

    def __init__(self, inner: CurvatureOperator) -> None:
        super().__init__(inner.shape[0], inner.dtype, inner.device)
        self.inner, self.seconds = inner, 0.0

    def _product(self, block: Tensor) -> Tensor:
        began = perf_counter()
        image = self.inner.matmat(block)
        if image.is_cuda:
            torch.cuda.synchronize()
        self.seconds += perf_counter() - began
        return image


def _vector(setting: Setting) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randn(setting.size, generator=source).to(setting.batches[0][0].device)
