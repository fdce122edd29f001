"""Every public function once on a small float64 network: what `test_device.py` runs on one device and on another."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from device_place import CPU, DOUBLE, Place, drawn
from step_cases import closure_for, every_rule, wrapped
from step_cases import network as step_network
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import landscape as ls
from landscape.autograd.cuda_graphs import FLAG
from landscape.curvature import hessian_blocks
from landscape.interop.pyhessian import hessian as pyhessian
from landscape.linalg.operator import MatrixOperator
from landscape.linalg.solve import solve
from landscape.training.objectives import OBJECTIVES

Call = Callable[[Place], Any]
SPAN = (-1.0, 1.0, 3)


def problem_calls() -> dict[str, Call]:
    return {
        "loss": lambda at: at.problem.loss(),
        "loss elsewhere": lambda at: at.problem.loss(at.v),
        "loss_and_gradient": lambda at: at.problem.loss_and_gradient(),
        "outputs": lambda at: at.problem.outputs(),
        "batches_with_units": lambda at: at.problem.batches_with_units(),
        "with_data": lambda at: at.problem.with_data(at.data[1:]).gradient(),
        "restricted_to": lambda at: at.problem.restricted_to(["4.weight"]).gradient(),
        "batch statistics": lambda at: at.problem.with_batch_norm("batch").loss(),
        "recomputed statistics": lambda at: at.problem.with_batch_norm("recompute").gradient(),
    }


class Recurrent(nn.Module):
    """cuDNN has no second derivative of it, and in eval mode not even a first one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 4, num_layers=2, batch_first=True), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x[:, 0])[0][:, -1])


def recurrent(at: Place, operator: Callable[[ls.Problem], ls.CurvatureOperator], training: bool) -> Tensor:
    """A product of an LSTM's curvature."""
    with torch.device(CPU):
        model = Recurrent().double()
    for i, p in enumerate(model.parameters()):
        p.data = 0.5 * drawn(*p.shape, seed=i)
    problem = ls.Problem(model.to(at.device).train(training), cross_entropy, at.data)
    return operator(problem) @ drawn(problem.size, seed=9).to(at.device)


def replayed(at: Place) -> list[Any]:
    """Products and a grid with CUDA graphs asked for, which a GPU must give."""
    with patch.dict(os.environ, {FLAG: "1"}):
        H, grid = at.H, walked(at)
    found = [H @ v for v in at.V.T.contiguous()]
    if at.device.type == "cuda":
        assert H.report.replays == len(at.data), H.report.not_replayed
        assert grid.details["cuda_graphs"] == "7 replays", grid.details["cuda_graphs"]
    return [*found, grid]


def operator_calls() -> dict[str, Call]:
    modes = ("auto", "double_backward", "forward_over_reverse", "central_differences")
    kinds = ("exact", "sampled", "empirical")
    return {
        **{f"hessian {mode}": lambda at, mode=mode: ls.hessian(at.problem, mode=mode) @ at.V for mode in modes},
        "hessian, nothing kept": lambda at: ls.hessian(at.problem, memory=0) @ at.v,
        "hessian, columns at once": lambda at: ls.hessian(at.problem, chunk=3) @ at.V,
        "hessian, columns at once, forward": lambda at: (
            ls.hessian(at.problem, chunk=3, mode="forward_over_reverse") @ at.V
        ),
        "hessian, in pieces": lambda at: ls.hessian(at.problem, micro_batch=5, weight_decay=0.1) @ at.v,
        "hessian, recomputed statistics": lambda at: ls.hessian(at.problem.with_batch_norm("recompute")) @ at.v,
        "hessian and slice, replayed": replayed,
        "hessian, dense": lambda at: at.H.dense(),
        "hessian, to_scipy": lambda at: torch.from_numpy(at.H.to_scipy() @ at.v.cpu().numpy()),
        "ggn": lambda at: ls.ggn(at.problem, chunk=2) @ at.V,
        **{f"fisher {kind}": lambda at, kind=kind: ls.fisher(at.problem, kind) @ at.V for kind in kinds},
        "hessian of an LSTM": lambda at: recurrent(at, ls.hessian, False),
        "hessian of an LSTM that trains": lambda at: recurrent(at, ls.hessian, True),
        "ggn of an LSTM": lambda at: recurrent(at, ls.ggn, False),
        "hessian_blocks": lambda at: {name: block.dense() for name, block in hessian_blocks(at.problem).items()},
        "block_spectra": lambda at: ls.block_spectra(at.problem, k=2),
    }


def linalg_calls() -> dict[str, Call]:
    methods = ("xtrace", "hutch++", "hutchinson")
    return {
        **{
            f"top_eigenpairs {which}": lambda at, which=which: ls.top_eigenpairs(at.H, 3, which=which, tol=1e-8)
            for which in ("LM", "LA", "SA")
        },
        "top_eigenpairs in blocks": lambda at: ls.top_eigenpairs(at.H, 3, tol=1e-8, block_size=2),
        "top_eigenpairs of an end": lambda at: ls.top_eigenpairs(at.convex, 2, max_matvecs=4).values,
        "top_eigenpairs of zero": lambda at: ls.top_eigenpairs(ls.MatrixOperator(0 * at.V @ at.V.T), 2).values,
        "top_eigenpairs, kept": lambda at: ls.top_eigenpairs(at.H, 2, resume=at.folder / "pairs.npz"),
        **{
            f"trace {method}": lambda at, method=method: ls.trace(at.H, matvecs=20, method=method) for method in methods
        },
        "trace to a tolerance": lambda at: ls.trace(at.convex, rtol=0.2),
        "trace, kept": lambda at: ls.trace(at.H, rtol=0.5, matvecs=40, resume=at.folder / "trace.npz"),
        "trace, exact": lambda at: ls.trace(at.convex, matvecs=148),
        "diagonal": lambda at: ls.diagonal(at.H, matvecs=20),
        "frobenius_norm": lambda at: ls.frobenius_norm(at.H, matvecs=20),
        "spectral_density": lambda at: ls.spectral_density(at.H, probes=3, steps=8),
        "spectral_density, evaluated": lambda at: ls.spectral_density(at.H, probes=3, steps=8).evaluate(
            torch.linspace(-1, 1, 5, **DOUBLE), 0.1
        ),
        "spectral_density, outliers": lambda at: ls.spectral_density(at.H, probes=2, steps=8, outliers=2),
        "absolute_trace": lambda at: ls.absolute_trace(at.H, probes=3, steps=8),
        "eigenvalue_count": lambda at: ls.eigenvalue_count(at.convex, above=2.0, probes=3, steps=8),
        "log_determinant": lambda at: ls.log_determinant(at.convex, shift=1.0, probes=3, steps=8),
        "log_determinant, exact": lambda at: ls.log_determinant(at.convex, shift=1.0),
        "solve": lambda at: solve(at.convex, at.v, damping=0.5).x,
    }


def metric_calls() -> dict[str, Call]:
    rhos = [0.1, 0.2]
    return {
        **{f"metric {name}": lambda at, name=name: ls.METRICS[name](at.problem) for name in ls.METRICS},
        "metric margin": lambda at: ls.metrics.margin(at.problem, normalized=True),
        "metric path_norm": lambda at: ls.metrics.path_norm(at.problem),
        "metric activations": lambda at: ls.metrics.activations(at.problem),
        "metric active_neurons": lambda at: ls.metrics.active_neurons(at.problem),
        "metric distance": lambda at: ls.metrics.distance_from_initialisation(at.problem, initial=at.v),
        "metric m_sharpness_curve": lambda at: ls.metrics.m_sharpness_curve(at.problem, [4, 8]),
        "metric random_corruption": lambda at: ls.metrics.random_corruption(at.problem, rhos),
        "metric adversarial_corruption": lambda at: ls.metrics.adversarial_corruption(at.problem, rhos),
        "metric leading_pairs": lambda at: ls.metrics.leading_pairs(at.problem).values,
        "metric whole_density": lambda at: ls.metrics.whole_density(at.problem),
        "metric renyi by layer": lambda at: ls.metrics.renyi(at.problem, by="layer", probes=3, steps=8),
        "metric worst_case_gap, restarts": lambda at: ls.metrics.worst_case_gap(at.problem, steps=3, restarts=2),
        "analyze": lambda at: dict(ls.analyze(at.problem, ["trace", "lambda_max", "surrogate_gap"], progress=False)),
        "analyze, kept": lambda at: dict(
            ls.analyze(at.problem, ["trace", "average_gap"], resume=at.folder / "analysis", progress=False)
        ),
    }


def plane(at: Place) -> tuple[Tensor, Tensor]:
    d1, d2 = ls.random_directions(at.problem)
    return d1, d2


def walked(at: Place, **settings: Any) -> Any:
    return ls.slice_2d(at.problem, *plane(at), SPAN, SPAN, progress=False, **settings)


def slice_calls() -> dict[str, Call]:
    return {
        "random_directions": lambda at: ls.random_directions(at.problem, normalize="filter"),
        "normalize_direction": lambda at: ls.normalize_direction(at.problem, at.v),
        "hessian_directions": lambda at: [d.abs() for d in ls.hessian_directions(at.problem)],
        "adam_directions": lambda at: ls.adam_directions(at.problem, trained_by_adam(at)),
        "direction_to": lambda at: ls.direction_to(at.problem, at.other),
        "plane_through": lambda at: ls.plane_through(at.problem, at.other, at.v),
        "pca_directions": lambda at: ls.pca_directions(at.problem, at.recorded()),
        "project_trajectory": lambda at: ls.project_trajectory(at.problem, at.recorded(), *plane(at)),
        "slice_1d": lambda at: ls.slice_1d(at.problem, at.v, SPAN, {"a": at.data, "b": at.data[1:]}),
        "slice_1d of several": lambda at: ls.slice_1d(at.problem, at.V, SPAN),
        "slice_1d, its own width": lambda at: ls.slice_1d(at.problem, at.v, "auto"),
        "slice_2d": walked,
        "slice_2d, a subset": lambda at: walked(at, subset=10),
        "slice_2d, kept": lambda at: walked(at, resume=at.folder / "grid"),
        "check_slice": lambda at: [
            finding.ok for finding in ls.check_slice(at.problem, walked(at), *plane(at)).findings
        ],
        "interpolate": lambda at: ls.interpolate(at.problem, at.other, (0.0, 1.0, 3)),
        "barrier": lambda at: ls.barrier(ls.interpolate(at.problem, at.other, (0.0, 1.0, 3))),
        "quadratic_model": lambda at: ls.quadratic_model(at.problem, at.v),
        "convexity_map": lambda at: ls.convexity_map(at.problem, *plane(at), (0.0, 1.0, 2), (0.0, 1.0, 2)),
        "gradient_norm_map": lambda at: ls.gradient_norm_map(at.problem, *plane(at), SPAN, SPAN),
        "persistence": lambda at: ls.persistence(walked(at)),
        "path_losses": lambda at: ls.path_losses(at.problem, ls.straight_path(at.problem, at.other), 3),
        "train_path": lambda at: ls.train_path(at.problem, at.other, epochs=2, progress=False),
        "train_path, chain": lambda at: ls.train_path(at.problem, at.other, kind="chain", epochs=2, progress=False),
    }


def trained_by_adam(at: Place) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(at.model.parameters())
    at.steps(optimizer)
    return optimizer


def stepped(at: Place, name: str) -> list[Tensor]:
    """Weights after two steps of a rule; the network has all kinds of layers that rules tell apart."""
    with torch.device(CPU):
        model = step_network(nn.LayerNorm(5))
    model.load_state_dict({key: drawn(*p.shape, seed=i) for i, (key, p) in enumerate(model.state_dict().items())})
    model.to(at.device)
    x, t = at.data[0]
    rule = every_rule_on(at.device)[name]
    optimizer = wrapped(model, rule)
    for _ in range(2):
        optimizer.step(closure_for(model, optimizer, x.flatten(1)[:, :4], t % 3))
    return list(model.parameters())


def every_rule_on(device: torch.device) -> dict[str, ls.rules.Rule]:
    vector = drawn(53, seed=7).to(device)
    F = MatrixOperator(torch.outer(vector, vector))
    with torch.device(CPU):
        rules = every_rule(0.05)
    callables = {
        "exact_fisher_sam": ls.rules.exact_fisher_sam(0.05, 0.1, operator=lambda: F),
        "exact_fisher_sam natural": ls.rules.exact_fisher_sam(0.05, 0.1, operator=lambda: F, natural=True),
        "eigen_sam": ls.rules.eigen_sam(0.05, 0.2, top=lambda: vector),
        "ssam_f": ls.rules.ssam_f(0.05, fisher=lambda: vector**2),
    }
    return rules | callables


def ada_hessian(at: Place) -> list[Tensor]:
    optimizer = ls.AdaHessian(at.model.parameters())
    for x, t in at.data:
        optimizer.zero_grad()
        optimizer.backward(cross_entropy(at.model(x), t))
        optimizer.step()
    return list(at.model.parameters())


def natural_gradient(at: Place) -> list[Tensor]:
    optimizer = ls.NaturalGradient(at.model.parameters())
    losses = [optimizer.step(ls.Problem(at.model, cross_entropy, batch)) for batch in at.data]
    return [*losses, *at.model.parameters()]


def objective(at: Place, kind: str) -> list[Tensor]:
    """Losses of both passes, three epochs long: the first has nothing to look back at."""
    later = {"start": 1} if kind in ("saf", "mesa") else {}
    made = OBJECTIVES[kind](partial(cross_entropy, reduction="none"), **later, **({"lag": 1} if kind == "saf" else {}))
    found = []
    for epoch in range(3):
        made.start_epoch(epoch, at.model)
        for i, (x, t) in enumerate(at.data):
            index = torch.arange(16 * i, 16 * i + len(t), device=at.device)
            made.start_step()
            for _ in range(2):
                loss = made(at.model, x, t, index)[0]
                loss.backward()
                found.append(loss)
            made.end_step(at.model)
    return found


def training_calls() -> dict[str, Call]:
    SGD = torch.optim.SGD
    return {
        **{f"rule {name}": lambda at, name=name: stepped(at, name) for name in every_rule_on(CPU)},
        **{f"objective {kind}": lambda at, kind=kind: objective(at, kind) for kind in OBJECTIVES},
        "AdaHessian": ada_hessian,
        "NaturalGradient": natural_gradient,
        "lookahead": lambda at: at.steps(ls.lookahead(SGD(at.model.parameters(), lr=0.1), k=1)),
        "Tracker": tracked,
    }


def tracked(at: Place) -> list[float | None]:
    tracker = ls.Tracker(at.problem, every=1, trace_matvecs=4, rho=0.05, log=at.folder / "log.jsonl")
    tracker.step()
    row = tracker.step()
    return [row.loss, row.gradient_norm, row.lambda_max, row.gap, row.cosine, row.trace]


def interop_calls() -> dict[str, Call]:
    return {
        "pyhessian eigenvalues": lambda at: pyhessian(at.model, cross_entropy, dataloader=at.data).eigenvalues(top_n=2)[
            0
        ],
        "pyhessian trace": lambda at: pyhessian(at.model, cross_entropy, dataloader=at.data).trace(20),
        "results, saved": lambda at: type(found := walked(at)).load(found.save(at.folder / "slice")),
    }


CALLS: dict[str, Call] = (
    problem_calls()
    | operator_calls()
    | linalg_calls()
    | metric_calls()
    | slice_calls()
    | training_calls()
    | interop_calls()
)
