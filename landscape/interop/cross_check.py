"""The installed PyHessian run beside our solvers on one problem: both answers, products and seconds.

PyHessian takes the mean over batches weighted by samples, all parameters that require grad, and the model in eval mode.
It runs on a copy of the model, with fused attention kernels off and the problem's dtype as torch's default: it draws
its vectors in that.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from landscape.autograd.differentiable import differentiable
from landscape.checks import integer_in, positive, require
from landscape.curvature import hessian
from landscape.linalg import top_eigenpairs, trace
from landscape.problem import Problem
from landscape.problem.batch import Forward
from landscape.side_effects import derivatives_on, random_source, random_state_kept
from landscape.storage.results import Result


@dataclass(frozen=True, eq=False, repr=False)
class CrossCheck(Result):
    """Ours, certified by residual and standard error, and PyHessian's at its defaults."""

    eigenvalues: Tensor  # (k,), falling in magnitude
    residuals: Tensor  # (k,), an eigenvalue lies within it of ours
    peer_eigenvalues: Tensor  # (k,), PyHessian's, falling in magnitude
    eigenvalue_errors: Tensor  # (k,), |theirs - ours| / |ours|
    trace: Tensor  # ()
    stderr: Tensor  # (), of our trace
    peer_trace: Tensor  # ()
    trace_error: Tensor  # (), |theirs - ours| / |ours|
    matvecs: dict[str, int]  # "eigenvalues", "trace": our products
    peer_matvecs: dict[str, int]
    seconds: dict[str, float]
    peer_seconds: dict[str, float]

    def _facts(self) -> dict[str, str]:
        wrong = f"{float(self.eigenvalue_errors.max()):.2g}"
        products = f"{sum(self.matvecs.values())} and {sum(self.peer_matvecs.values())}"
        return {"eigenvalue_errors": wrong, "trace_error": f"{float(self.trace_error):.2g}", "matvecs": products}


def cross_check(
    problem: Problem, *, k: int = 1, tol: float = 1e-4, matvecs: int = 100, generator: torch.Generator | None = None
) -> CrossCheck:
    """Top eigenvalues and trace by our solvers and by the installed PyHessian at its defaults.

    Args:
        problem: with batch_norm="eval"; PyHessian needs inputs in one tensor and a mean over samples.
        k: eigenvalues, of largest magnitude.
        tol: of our eigenpairs, see `top_eigenpairs`.
        matvecs: products of our trace.
        generator: for both; default seed 0.
    Raises:
        ValueError: if PyHessian is not installed, computes another function than this problem, or fails on it.
    """
    integer_in("k", k, 1, problem.require_whole("cross_check").size)
    positive("tol", tol)
    package = _package()
    source = random_source(generator)
    pairs, t_pairs = _timed(lambda: top_eigenpairs(hessian(problem), k, tol=tol, generator=source, progress=False))
    total, t_trace = _timed(lambda: trace(hessian(problem), matvecs=matvecs, generator=source, progress=False))
    with _conditions(problem, source):
        peer = _Peer(package, problem)
        found, p_pairs = _timed(lambda: peer.run(lambda run: run.eigenvalues(top_n=k)[0]))
        n_pairs, peer.products = peer.products, 0
        samples, p_trace = _timed(lambda: peer.run(lambda run: run.trace()))
    theirs = pairs.values.double().new_tensor(sorted(found, key=abs, reverse=True))
    their_trace = torch.tensor(samples, dtype=torch.float64, device="cpu").mean()
    return CrossCheck(
        eigenvalues=pairs.values,
        residuals=pairs.residuals,
        peer_eigenvalues=theirs,
        eigenvalue_errors=(theirs - pairs.values).abs() / pairs.values.abs(),
        trace=total.value,
        stderr=total.stderr,
        peer_trace=their_trace,
        trace_error=(their_trace - total.value).abs() / total.value.abs(),
        matvecs={"eigenvalues": pairs.matvecs, "trace": total.matvecs},
        peer_matvecs={"eigenvalues": n_pairs, "trace": peer.products},
        seconds={"eigenvalues": t_pairs, "trace": t_trace},
        peer_seconds={"eigenvalues": p_pairs, "trace": p_trace},
    )


class _Forwarded(nn.Module):
    """The problem's forward function as a module's."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model, self.outputs = model, forward

    def forward(self, inputs: Any) -> Any:
        return self.outputs(self.model, inputs)


class _Peer:
    """PyHessian on a copy of the model, its products counted."""

    def __init__(self, package: Any, problem: Problem) -> None:
        require(problem.batch_norm == "eval", f"PyHessian knows batch_norm='eval' only, got {problem.batch_norm!r}")
        batches = problem.batches_with_units()
        for index, (inputs, _, units) in enumerate(batches):
            require(
                isinstance(inputs, Tensor) and len(inputs) == units,
                f"batch {index}: PyHessian weighs by len(inputs) of one tensor, got {type(inputs).__name__} of weight "
                f"{units:g}; compare on a problem without weight=",
            )
        self.package, self.criterion, self.products = package, problem.criterion, 0
        self.batches = [(inputs, targets) for inputs, targets, _ in batches]
        model = deepcopy(problem.model)
        for name, p in model.named_parameters():
            p.grad = None
            p.requires_grad_(name in problem.layout.names)
        self.model = _Forwarded(model, problem.forward)
        self.cuda = problem.vector().is_cuda

    def run(self, call: Callable[[Any], Any]) -> Any:
        """What `call` makes of a fresh PyHessian object. Raises ValueError if PyHessian fails."""
        try:
            peer = self.package.hessian(self.model, self.criterion, dataloader=self.batches, cuda=self.cuda)
            product = peer.dataloader_hv_product

            def counted(v: list[Tensor]) -> Any:
                self.products += 1
                return product(v)

            peer.dataloader_hv_product = counted
            return call(peer)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"PyHessian failed on this problem: {reason}") from error
        finally:
            self.model.zero_grad()  # its gradients hold their graphs


@contextmanager
def _conditions(problem: Problem, source: torch.Generator) -> Iterator[None]:
    """Default dtype, random state and kernels that PyHessian runs with, put back after it."""
    before = torch.get_default_dtype()
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))
    with random_state_kept(), derivatives_on(), differentiable(problem.model, twice=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using backward")  # with create_graph, as PyHessian does
        torch.manual_seed(seed)
        torch.set_default_dtype(problem.vector().dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def _package() -> Any:
    try:
        return import_module("pyhessian")
    except ImportError as error:
        raise ValueError(f"PyHessian cannot be imported ({error}); pip install PyHessian==0.1") from error


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = perf_counter()
    result = call()
    return result, perf_counter() - began
