"""Curvature along a training run, every n steps and at a stated cost: λ_max, |ĝ · v₁|, norms, tr H, surrogate gap.

Neighbouring checkpoints have similar leading eigenvectors, so a few Lanczos steps from the last one suffice; some noise
is mixed in, so that a direction that overtakes the old one is found too. The residual says how good the value is: an
eigenvalue lies within it. Cost of a measurement: one gradient, `matvecs` + `trace_matvecs` Hessian products, `matvecs`
more for λmax(P⁻¹H) where P, the optimiser's preconditioner, is not I, one more gradient for the surrogate gap
h = L(w + rho ĝ) − L(w), and some seven forward passes for the critical sharpness. At a stationary point 2h/rho²
estimates λ_max; elsewhere h has the part rho |g| as well, and 2(h − rho |g|)/rho² → ĝᵀHĝ.
Source: Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of stability",
arXiv:2103.00065; 2022, "Adaptive gradient methods at the edge of stability", arXiv:2207.14484 (P); Gur-Ari et al. 2018,
"Gradient descent happens in a tiny subspace", arXiv:1812.04754 (|ĝ · v₁|); Zhuang et al. 2022, arXiv:2203.08065 (h,
cos(g, g')); Luo et al. 2024, arXiv:2501.12666 (|ê · v₁|); Kalra et al. 2026, arXiv:2601.16979 (λ_c).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, distributed

from landscape.checks import integer_in, not_negative, one_of, require, vector_like
from landscape.curvature import hessian
from landscape.curvature.critical_step import critical_step, first_step, next_update
from landscape.curvature.preconditioned import Preconditioned, preconditioned_hessian, stability_threshold
from landscape.linalg import top_eigenpairs, trace
from landscape.linalg.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.processes.space import Space
from landscape.side_effects import random_source
from landscape.storage.results import EigenPairs, Estimate
from landscape.training.writers import Writer, require_writer, tell
from landscape.vectors import Vector

NOISE = 0.1  # length of the random part of a warm start, against the last eigenvector's 1


@dataclass(frozen=True)
class Measurement:
    """One row of the log. What was not asked for is None."""

    step: int
    loss: float
    gradient_norm: float
    lambda_max: float
    residual: float  # an eigenvalue lies within it of lambda_max
    alignment: float  # |ĝ · v₁|, 0..1
    weight_norm: float
    gap: float | None  # h
    gap_lambda: float | None  # 2h/rho²
    gap_curvature: float | None  # 2(h − rho |g|)/rho²
    cosine: float | None  # cos(g, g'), g' at w + rho ĝ
    e_alignment: float | None  # |ê · v₁|, 0..1
    trace: float | None
    trace_stderr: float | None
    matvecs: int  # Hessian products
    gradient_times: float  # time of the measurement in units of one gradient on the same data
    seconds: float
    preconditioned: float | None = None  # λmax(P⁻¹H)
    preconditioned_residual: float | None = None  # an eigenvalue lies within it
    threshold: float | None = None  # of λmax(P⁻¹H), above which full-batch steps are unstable
    critical_sharpness: float | None = None  # λ_c; NaN where the loss does not fall, or never rises


class Tracker:
    """Measures a problem every n steps of any training loop, which it leaves untouched.

    tracker = Tracker(problem, every=100, log="run/curvature.jsonl")
    for inputs, targets in loader: ...; optimizer.step(); tracker.step()

    The problem's data decides the cost; a fixed subset of a thousand samples is usual. Weights, buffers, .grad, flags
    and random state stay as they are, to the bit. In several processes, also on a sharded model, all make the same
    calls and have the same rows but for times; the first one writes and tells.

    Args:
        problem: the scalar function, read at the model's present weights; or a function that gives it, for instance
            one on the present batch.
        every: steps between measurements; the first is after step `every`.
        matvecs: Hessian products for λ_max, at least 2, where the last eigenvector is known.
        first_matvecs: at most so many the first time, from a random start, to a residual of 1e-3 λ.
        trace_matvecs: products for tr H; 0 leaves it out, else at least 4.
        rho: radius of the surrogate gap; 0 leaves it and cos(g, g') out.
        perturbation: gives the e (P,) of which |ê · v₁| is, of a sharded model its own entries, or None.
        optimizer: that of the loop, for λmax(P⁻¹H) and its threshold, see `metrics.preconditioned_sharpness`.
        critical: whether to add the critical sharpness λ_c along the gradient, or the optimiser's next step where there
            is one; some seven forward passes, see `metrics.critical_sharpness`.
        which: "LA" largest eigenvalue | "LM" largest magnitude | "SA" smallest.
        log: a file for the rows as JSON lines; it is begun anew.
        writer: is told every row as it is made: anything with add_scalar(tag, value, step), such as TensorBoard's
            SummaryWriter, or a callable(values, step), such as wandb.log. Tags are "curvature/lambda_max" and the like.
        generator: default one of its own with seed 0.
    Raises:
        ValueError: if an argument is out of range; at a measurement, if the loss is NaN or infinite.
    """

    def __init__(
        self,
        problem: Problem | Callable[[], Problem],
        *,
        every: int,
        matvecs: int = 8,
        first_matvecs: int = 60,
        trace_matvecs: int = 0,
        rho: float = 0.0,
        perturbation: Callable[[], Vector | None] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        critical: bool = False,
        which: str = "LA",
        log: str | Path | None = None,
        writer: Writer | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        integer_in("every", every, 1)
        integer_in("matvecs", matvecs, 2)
        integer_in("first_matvecs", first_matvecs, 2)
        require(trace_matvecs == 0 or trace_matvecs >= 4, f"trace_matvecs must be 0 or at least 4, got {trace_matvecs}")
        not_negative("rho", rho)
        one_of("which", which, ("LM", "LA", "SA"))
        require_writer(writer)
        self.problem, self.every, self.which = problem, every, which
        self.matvecs, self.first_matvecs, self.trace_matvecs = matvecs, first_matvecs, trace_matvecs
        self.log, self.writer = None if log is None else Path(log), writer
        self.rho, self.perturbation, self.optimizer = rho, perturbation, optimizer
        self.critical, self.generator = critical, random_source(generator)
        self.steps = 0
        self.rows: list[Measurement] = []
        self._vector: Tensor | None = None
        self._preconditioned_vector: Tensor | None = None
        self._write("w")

    def step(self) -> Measurement | None:
        """Count one training step; the row, if it was time for one."""
        return self(self.steps + 1)

    def __call__(self, step: int) -> Measurement | None:
        """The same where the loop counts by itself: `step` training steps are done."""
        integer_in("step", step, 0)
        self.steps = step
        return self.measure() if step > 0 and step % self.every == 0 else None

    def measure(self) -> Measurement:
        """A row now, whatever the step."""
        begin = perf_counter()
        problem = self.problem if isinstance(self.problem, Problem) else self.problem()
        before = perf_counter()
        loss, g = problem.loss_and_gradient()
        float(loss)  # waits for the device
        one_gradient = perf_counter() - before
        H = hessian(problem)
        pairs = self._leading(H, self._vector)
        how: dict[str, Any] = {"generator": self.generator, "progress": False}
        estimate = trace(H, matvecs=self.trace_matvecs, **how) if self.trace_matvecs else None
        found = self._found(problem, loss, g, pairs, estimate)
        if self.optimizer is not None:
            found |= self._as_optimised(problem, self.optimizer, pairs, found["matvecs"])
        seconds = perf_counter() - begin
        row = Measurement(**found, gradient_times=seconds / one_gradient, seconds=seconds)
        self._vector = pairs.vectors[:, 0].clone()
        self.rows.append(row)
        if problem.process_group is None or distributed.get_rank(problem.process_group) == 0:
            self._write("a", [row])
            tell(self.writer, asdict(row))
        return row

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs, loadable with `weights_only=True`."""
        return {
            "steps": self.steps,
            "rows": [asdict(row) for row in self.rows],
            "vector": None if self._vector is None else self._vector.cpu(),
            "preconditioned_vector": None if (own := self._preconditioned_vector) is None else own.cpu(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`; a log is written again with the rows up to there."""
        self.steps = state["steps"]
        self.rows = [Measurement(**row) for row in state["rows"]]
        self._vector, self._preconditioned_vector = (
            None if (own := state.get(key)) is None else own.clone() for key in ("vector", "preconditioned_vector")
        )
        self.generator.set_state(state["generator"].cpu())
        self._write("w", self.rows)

    def _leading(self, H: CurvatureOperator, last: Vector | None) -> EigenPairs:
        space = H.space
        if last is None or space.any(len(last) != space.own):
            limit, start = self.first_matvecs, None
        else:
            drawn = space.normal(1, self.generator)[0].to(H.device, H.dtype)
            limit, start = self.matvecs, last.to(drawn) + NOISE * drawn / space.norms(drawn)
        return top_eigenpairs(
            H, 1, which=self.which, tol=1e-3, max_matvecs=limit, start=start, generator=self.generator, progress=False
        )

    def _found(
        self, problem: Problem, loss: Tensor, g: Vector, pairs: EigenPairs, estimate: Estimate | None
    ) -> dict[str, Any]:
        w, v, space = problem.vector(), pairs.vectors[:, 0], problem.space
        e = self.perturbation() if self.perturbation else None
        if e is not None:
            with space.agreed():
                vector_like("perturbation", e, w)
        return {
            "step": self.steps,
            "loss": float(loss),
            "gradient_norm": float(space.norms(g)),
            "lambda_max": float(pairs.values[0]),
            "residual": float(pairs.residuals[0]),
            "alignment": abs(_cosine(space, g, v)),
            "weight_norm": float(space.norms(w)),
            **self._gap(problem, w, loss, g),
            "e_alignment": None if e is None else abs(_cosine(space, e, v)),
            "trace": None if estimate is None else float(estimate.value),
            "trace_stderr": None if estimate is None else float(estimate.stderr),
            "matvecs": pairs.matvecs + (0 if estimate is None else estimate.matvecs),
            "critical_sharpness": self._critical(problem, loss, g) if self.critical else None,
        }

    def _critical(self, problem: Problem, loss: Tensor, g: Vector) -> float:
        """λ_c, sought from the last one on."""
        last = next((own for row in reversed(self.rows) if (own := row.critical_sharpness) and own > 0), None)
        try:
            update = g if self.optimizer is None else next_update(problem, self.optimizer, g)
            start = first_step(update, float(loss), g, problem.space)
            return 2 / critical_step(problem, update, 2 / last if last else start).step
        except ValueError:  # there is none: the training goes on
            return float("nan")

    def _as_optimised(
        self, problem: Problem, optimizer: torch.optim.Optimizer, pairs: EigenPairs, matvecs: int
    ) -> dict[str, Any]:
        """Columns from P⁻¹H, and the products with those that it adds."""
        operator = preconditioned_hessian(problem, optimizer)
        if isinstance(operator, Preconditioned):
            pairs = self._leading(operator, self._preconditioned_vector)
            self._preconditioned_vector = pairs.vectors[:, 0].clone()
            matvecs += pairs.matvecs
        return {
            "preconditioned": float(pairs.values[0]),
            "preconditioned_residual": float(pairs.residuals[0]),
            "threshold": stability_threshold(optimizer),
            "matvecs": matvecs,
        }

    def _gap(self, problem: Problem, w: Vector, loss: Tensor, g: Vector) -> dict[str, float | None]:
        """Columns from the gradient at w + rho ĝ."""
        rho = self.rho
        if rho == 0:
            return dict.fromkeys(("gap", "gap_lambda", "gap_curvature", "cosine"))
        norm = float(problem.space.norms(g))
        loss_adv, g_adv = problem.loss_and_gradient(w + rho * (g / norm if norm > 0 else g))
        h = float(loss_adv - loss)
        curvature = 2 * (h - rho * norm) / rho**2
        cosine = _cosine(problem.space, g, g_adv)
        return {"gap": h, "gap_lambda": 2 * h / rho**2, "gap_curvature": curvature, "cosine": cosine}

    def _write(self, mode: str, rows: list[Measurement] | None = None) -> None:
        if self.log is None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open(mode) as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows or [])


def _cosine(space: Space, x: Vector, y: Vector) -> float:
    """Of the angle between them; 0 where one is 0."""
    lengths = space.norms(x) * space.norms(y)
    return float(space.inner(x, y) / lengths) if lengths > 0 else 0.0
