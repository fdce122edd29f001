"""Trace of a symmetric operator from products alone.

Hutchinson: mean of ωᵀ A ω. Hutch++: the trace on a sketch of the range, exactly, plus Hutchinson on the rest. XTrace:
Hutch++ with every test vector used for both, leaving it out of its own sketch, and averaged. All grow: test vectors are
added to those that are there, and one sketch of 2m vectors is worth far more than two of m.
Source: Meyer et al. 2021, arXiv:2010.09649, Algorithm 1; Epperly, Tropp and Webber 2024, arXiv:2301.07825, section 2.3.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, positive
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probe_checkpoint import ProbeCheckpoint
from landscape.linalg.probes import rademacher, sphere
from landscape.linalg.products_shown import products_shown
from landscape.linalg.scaled import Scaled
from landscape.linalg.sketch import Sketch, sketch
from landscape.linalg.xtrace import wide_columns, xtrace
from landscape.side_effects import random_source
from landscape.storage.results import Estimate
from landscape.storage.results.student import calibrated_error

State = dict[str, Tensor]  # what an estimator has so far
Grow = Callable[[CurvatureOperator, State, int, torch.Generator], State]  # to so many products in all

FIRST, GROWTH = 32, 1.5  # products of the first round; by how much all grow in the next: half too many at worst
CHUNK = 64  # test vectors at once where they need not be kept: 256 products take .36 s by 1, .20 by 8, .19 by 64 or 256
ENTRIES = 2**28  # of such a block at most: 1 GB in float32, a single vector of a larger network


def trace(
    operator: CurvatureOperator,
    *,
    matvecs: int | None = None,
    method: str = "xtrace",
    rtol: float | None = None,
    generator: torch.Generator | None = None,
    resume: str | Path | None = None,
    progress: bool | None = None,
) -> Estimate:
    """Estimate of tr(A) with a calibrated standard error: value ± 1.96 stderr holds tr(A) in 90-99 % of runs.

    Of any operator; `landscape.metrics.trace` is this one for the Hessian of a problem.

    Args:
        operator: symmetric, (P, P).
        matvecs: products in all, default 60; from P on the trace is summed exactly with P products. With `rtol` the
            most that may be spent, default 1000, where an exact sum at the end comes on top of the rounds before it.
        method: "xtrace" (at least 4 products) | "hutch++" (at least 6) | "hutchinson" (at least 2).
        rtol: go on in rounds, of 32 products in all, 48, 72, ..., until stderr <= rtol |value|.
        generator: for the test vectors; default seed 0.
        resume: a file ending in .npz that keeps every whole round: a killed run, called again with the same
            arguments, goes on from there and ends with the same numbers. Removed at the end. The probes are drawn in
            rounds: another estimate, with an error of the same size, than without resume=.
        progress: show a bar; default on a terminal and in a notebook, else a line every 30 s.
    Returns:
        Estimate of tr(A); exact up to rounding where the rank is below matvecs / 2 (xtrace) or matvecs / 3 (hutch++).
        details with rtol: rtol, and reached, 1 or 0.
    Raises:
        ValueError: if matvecs is too small, rtol not positive, the method unknown, resume= of other work, or the
            operator gives NaN or infinity.
    """
    one_of("method", method, tuple(_METHODS))
    least, size = _METHODS[method][0], operator.shape[0]
    limit = matvecs if matvecs is not None else 60 if rtol is None else 1000
    integer_in("matvecs", limit, min(least, size))
    if rtol is not None:
        positive("rtol", rtol)
    source = random_source(generator)
    settings = {"what": "trace", "method": method, "matvecs": limit, "rtol": rtol}
    scaled = Scaled(operator)
    checkpoint = ProbeCheckpoint(resume, scaled, source, settings)
    rounds = _rounds(limit, size, rtol is None and resume is None)
    with products_shown(scaled, min(limit, size) if rtol is None and resume is None else None, progress):
        found = _in_rounds(scaled, method, rounds, rtol, checkpoint)
    checkpoint.close()
    found = scaled.estimate(found)
    if rtol is None:
        return found
    return replace(found, details={"rtol": rtol, "reached": float(_within(found, rtol))})


def _rounds(limit: int, size: int, at_once: bool) -> list[int]:
    """Products in all after each round; a total of P, the last one, stands for the exact sum."""
    last = min(limit, size)
    totals, total = [], FIRST
    while not at_once and total + 6 < last:  # every round adds to the sketch and to the tests
        totals.append(total)
        total = int(GROWTH * total)
    return [*totals, last]


def _in_rounds(
    operator: CurvatureOperator, method: str, totals: list[int], rtol: float | None, checkpoint: ProbeCheckpoint
) -> Estimate:
    _, grow, estimate = _METHODS[method]
    state = checkpoint.load()
    done = int(state.pop("rounds", torch.tensor(0, device="cpu")))
    found = estimate(operator, state) if done else None
    while done < len(totals) and not (found and rtol and _within(found, rtol)):
        if totals[done] == operator.shape[0]:
            before = found.matvecs if found and rtol else 0
            return Estimate.exact(operator.dense().diagonal().double().sum(), before + operator.shape[0])
        state = grow(operator, state, totals[done], checkpoint.source)
        done += 1
        checkpoint.save({**state, "rounds": torch.tensor(done, device="cpu")})
        found = estimate(operator, state)
    assert found is not None  # there is at least one round
    return found


def _within(found: Estimate, rtol: float) -> bool:
    return bool(found.stderr <= rtol * found.value.abs())


def _grow_hutchinson(operator: CurvatureOperator, state: State, total: int, source: torch.Generator) -> State:
    samples = [state["samples"]] if state else []
    missing = total - sum(len(part) for part in samples)
    wide = max(1, min(CHUNK, ENTRIES // operator.shape[0]))
    for start in range(0, missing, wide):
        probes = rademacher(operator, min(wide, missing - start), source)
        samples.append(_forms(operator, probes, operator.matmat(probes)))
    return {"samples": torch.cat(samples)}


def _grow_sketch(
    operator: CurvatureOperator, state: State, probes: Tensor, others: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    known = {name: part for name, part in state.items() if name not in others}
    return sketch(operator, probes, Sketch(**known, space=operator.space) if state else None).tensors


def _grow_hutch_plus_plus(operator: CurvatureOperator, state: State, total: int, source: torch.Generator) -> State:
    third = total // 3
    known = [state[name].shape[1] for name in ("probes", "tests")] if state else [0, 0]
    probes = rademacher(operator, third - known[0], source)
    grown = _grow_sketch(operator, state, probes, ("tests", "test_images"))
    tests = rademacher(operator, total - 2 * third - known[1], source)
    images = operator.matmat(tests)
    if state:
        tests, images = torch.cat([state["tests"], tests], 1), torch.cat([state["test_images"], images], 1)
    return {**grown, "tests": tests, "test_images": images}


def _hutch_plus_plus(operator: CurvatureOperator, state: State) -> Estimate:
    basis, basis_images, tests = state["basis"], state["basis_images"], state["tests"]
    inner = operator.space.inner(basis, tests)
    on_rest = _forms(operator, tests - basis @ inner, state["test_images"] - basis_images @ inner)
    spent = state["probes"].shape[1] + basis.shape[1] + tests.shape[1]
    return _mean(_forms(operator, basis, basis_images).sum() + on_rest, spent)


def _grow_xtrace(operator: CurvatureOperator, state: State, total: int, source: torch.Generator) -> State:
    known = state["probes"].shape[1] if state else 0
    return _grow_sketch(operator, state, sphere(operator, total // 2 - known, source))


def _forms(operator: CurvatureOperator, block: Tensor, images: Tensor) -> Tensor:
    """vᵢᵀ (A v)ᵢ for each column, summed in float64."""
    return operator.space.added(wide_columns(block, images))


def _mean(samples: Tensor, matvecs: int) -> Estimate:
    return Estimate(value=samples.mean().cpu(), stderr=calibrated_error(samples).cpu(), matvecs=matvecs)


_METHODS: dict[str, tuple[int, Grow, Callable[[CurvatureOperator, State], Estimate]]] = {  # least products, ...
    "xtrace": (4, _grow_xtrace, lambda operator, state: xtrace(Sketch(**state, space=operator.space))),
    "hutch++": (6, _grow_hutch_plus_plus, _hutch_plus_plus),
    "hutchinson": (2, _grow_hutchinson, lambda _, state: _mean(state["samples"], len(state["samples"]))),
}
