"""The same three questions put to each package, each answer with the products with the Hessian that it took.

The other packages are imported when they are asked: where one is missing, it alone cannot answer.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from setting import Setting
from torch import Tensor

import landscape as ls


@dataclass(frozen=True)
class Answer:
    """Numbers and their price."""

    values: list[float]  # eigenvalues falling in magnitude; one trace; nodes of a density
    matvecs: int


def ours_eigenvalues(setting: Setting, seed: int) -> Answer:
    """Thick-restart Lanczos, certified by residuals."""
    pairs = ls.top_eigenpairs(
        ls.hessian(setting.problem), setting.config.k, tol=setting.config.tol, generator=_seeded(seed)
    )
    if not bool(pairs.converged.all()):
        raise RuntimeError("our eigenpairs did not converge")
    return Answer(pairs.values.tolist(), pairs.matvecs)


def ours_trace(setting: Setting, seed: int) -> Answer:
    """XTrace."""
    H = ls.hessian(setting.problem, chunk=setting.config.chunk)
    found = ls.trace(H, matvecs=setting.config.trace_matvecs, generator=_seeded(seed))
    return Answer([float(found.value)], found.matvecs)


def ours_density(setting: Setting, seed: int) -> Answer:
    """Stochastic Lanczos quadrature, one probe."""
    density = ls.spectral_density(
        ls.hessian(setting.problem, chunk=setting.config.chunk),
        probes=1,
        steps=setting.config.density_steps,
        generator=_seeded(seed),
    )
    return Answer(density.nodes.flatten().tolist(), density.matvecs)


def pyhessian_eigenvalues(setting: Setting, seed: int) -> Answer:
    """Power iteration with deflation, at its defaults."""
    with _pyhessian(setting, seed) as (peer, count):
        values, _ = peer.eigenvalues(top_n=setting.config.k)
        return Answer(sorted(values, key=abs, reverse=True), count[0])


def pyhessian_trace(setting: Setting, seed: int) -> Answer:
    """Hutchinson's estimator, at its defaults."""
    with _pyhessian(setting, seed) as (peer, count):
        return Answer([float(np.mean(peer.trace()))], count[0])


def pyhessian_density(setting: Setting, seed: int) -> Answer:
    """Stochastic Lanczos quadrature, one run."""
    with _pyhessian(setting, seed) as (peer, count):
        nodes, _ = peer.density(iter=setting.config.density_steps)
        return Answer([float(node) for node in nodes[0]], count[0])


def curvlinops_eigenvalues(setting: Setting, seed: int, tol: float | None = None) -> Answer:
    """ARPACK on its Hessian; it has no eigensolver of its own."""
    inner, count = _curvlinops(setting).to_scipy(), [0]

    def product(v: Any) -> Any:
        count[0] += 1
        return inner @ v.ravel()

    counted = LinearOperator(inner.shape, matvec=product, dtype=inner.dtype)
    start = np.random.RandomState(seed).standard_normal(inner.shape[0]).astype(inner.dtype)
    tol = setting.config.tol if tol is None else tol
    values = eigsh(counted, setting.config.k, which="LM", tol=tol, v0=start, return_eigenvectors=False)
    return Answer(sorted(values.tolist(), key=abs, reverse=True), count[0])


def curvlinops_trace(setting: Setting, seed: int) -> Answer:
    """Its XTrace."""
    import curvlinops

    torch.manual_seed(seed)
    products = setting.config.trace_matvecs
    return Answer([float(curvlinops.xtrace(_curvlinops(setting), products))], products)


def curvlinops_density(setting: Setting, seed: int) -> Answer:
    """Its Lanczos iteration, one run."""
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    torch.manual_seed(seed)
    nodes, _ = fast_lanczos(_curvlinops(setting), setting.config.density_steps)
    return Answer(nodes.tolist(), setting.config.density_steps)


def pyhessian_product(setting: Setting, v: Tensor) -> Callable[[], Any]:
    """A product with its Hessian on all batches, as its solvers take it."""
    with _pyhessian(setting, 0) as (peer, _):
        like = [part.view_as(p) for part, p in zip(v.split([p.numel() for p in peer.params]), peer.params, strict=True)]
        return lambda: peer.dataloader_hv_product(like)


def curvlinops_product(setting: Setting, v: Tensor) -> Callable[[], Any]:
    """A product with its Hessian on all batches."""
    operator = _curvlinops(setting)
    return lambda: operator @ v


QUESTIONS: dict[str, dict[str, Callable[[Setting, int], Answer]]] = {
    "eigenvalues": {
        "ours": ours_eigenvalues,
        "pyhessian": pyhessian_eigenvalues,
        "curvlinops": curvlinops_eigenvalues,
    },
    "trace": {"ours": ours_trace, "pyhessian": pyhessian_trace, "curvlinops": curvlinops_trace},
    "density": {"ours": ours_density, "pyhessian": pyhessian_density, "curvlinops": curvlinops_density},
}


@contextmanager
def _pyhessian(setting: Setting, seed: int) -> Iterator[tuple[Any, list[int]]]:
    """PyHessian on a copy of the model, and the number of its products."""
    import pyhessian

    torch.manual_seed(seed)
    model, count = deepcopy(setting.model), [0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using backward")
        peer = pyhessian.hessian(
            model, setting.criterion, dataloader=setting.batches, cuda=setting.config.device == "cuda"
        )
        product = peer.dataloader_hv_product

        def counted(v: Any) -> Any:
            count[0] += 1
            return product(v)

        peer.dataloader_hv_product = counted
        try:
            yield peer, count
        finally:
            model.zero_grad()


def _curvlinops(setting: Setting) -> Any:
    import curvlinops

    mean = torch.nn.CrossEntropyLoss()
    return curvlinops.HessianLinearOperator(
        setting.model, mean, setting.parameters, setting.batches, check_deterministic=False
    )


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
