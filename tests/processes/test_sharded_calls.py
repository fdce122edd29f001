"""Every public function on a model sharded over two gloo processes: the numbers of one, or a line that says why not.

docs/scale.md has the table.
"""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from device_calls import linalg_calls, metric_calls, operator_calls, problem_calls, slice_calls, training_calls
from device_place import CLOCK, CPU, Place, numbers
from served import of_two_ranks
from sharded_networks import seeded, whole
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

import landscape as ls
from landscape.linalg.shifted import Shifted
from landscape.vectors import is_sharded
from landscape.vectors import whole as gathered

STATED = {"stderr", "trace_stderr", "residuals", "converged", "matvecs", "verified", "errors", "passes", "parts"}
AGAIN = {  # "analyze, all" has them, or another call beside
    *("metric lambda_max", "metric lambda_max_over_lambda_5", "metric trace", "metric frobenius_norm", "analyze"),
    *("metric eigenvalues_above", "metric whole_density", "trace, exact", "log_determinant, exact"),
    *("spectral_density, evaluated", "spectral_density, outliers", "hessian central_differences"),
}
LEFT_OUT = (
    "LSTM",
    "replayed",
    "of zero",
    "in blocks",
    "LA",
    "SA",
    "of several",
    "its own width",
    "a subset",
    "hutch++",
)


class Shared(Place):
    """A network of 52 parameters, sharded over a mesh or whole, and data that all processes have."""

    def __init__(self, folder, mesh=None):
        self.mesh = mesh
        super().__init__(CPU, folder)

    def __post_init__(self):
        self.model, self.other = (self.network(seed) for seed in (0, 1))
        source = seeded(3)
        x, t = torch.randn(12, 1, 5, 5, generator=source).double(), torch.randint(4, (12,), generator=source)
        self.data = list(zip(x.split(8), t.split(8), strict=True))
        self.problem = ls.Problem(self.model, cross_entropy, self.data)
        self.v, *rows = self.problem.space.normal(6, seeded(2))
        self.V = torch.stack(rows, dim=1)
        self.convex = Shifted(self.H, -20.0)

    def network(self, seed):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.Flatten(), nn.Linear(9, 4)]
        model = nn.Sequential(*layers).double().eval()
        return model if self.mesh is None else fully_shard(model, mesh=self.mesh)


def preconditioned(at):
    optimizer = torch.optim.AdamW(at.model.parameters())
    at.steps(optimizer)
    return ls.metrics.preconditioned_sharpness(at.problem, optimizer=optimizer)


def in_groups(at):
    """Bases of two probes have room beside each other on the process with fewer entries, not on the other one."""
    with patch("landscape.linalg.quadrature.BASIS_BYTES", 1300):
        return ls.spectral_density(at.H, probes=2, steps=4, outliers=0, check=0)


def of_some(at):
    part = at.problem.restricted_to(["4.weight"])
    return part.loss(), part.space.norms(part.gradient())


OWN = {
    "restricted_to": of_some,
    "spectral_density in groups": in_groups,
    "product_memory": lambda at: ls.product_memory(at.H),
    "hessian, dense": lambda at: torch.linalg.eigvalsh(at.H.dense()),  # whose rows are in the processes' order
    "hessian_blocks": lambda at: [torch.linalg.eigvalsh(A.dense()) for A in ls.hessian_blocks(at.problem).values()],
    "spectrum_ends": lambda at: ls.linalg.spectrum_ends(at.H).values,
    "over_draws": lambda at: at.problem.over_draws(2).value,
    "with_batches_kept": lambda at: at.problem.with_batches_kept().gradient(),
    "with_processes": lambda at: at.problem.with_processes(None),
    "Recorder": lambda at: [at.recorded(), at.problem.vector()][1],
    "analyze, all": lambda at: {
        name: found for name, found in ls.analyze(at.problem, progress=False).items() if name not in METRICS_WITHOUT
    },
    "preconditioned": preconditioned,
    "pac_bayes_gaussian": lambda at: ls.metrics.pac_bayes_gaussian(at.problem),
    "straight_path": lambda at: ls.straight_path(at.problem, at.other),
    "path_losses": lambda at: ls.path_losses(at.problem, ls.BezierPath(at.v, at.v, at.v), 3),
}


def chosen():
    found = problem_calls() | operator_calls() | linalg_calls() | metric_calls() | slice_calls()
    found |= {name: training_calls()[name] for name in ("NaturalGradient", "lookahead", "Tracker")}
    apart = {name for name in found if name in AGAIN or any(each in name for each in LEFT_OUT)}
    return {name: call for name, call in found.items() if name not in apart} | OWN


CALLS = chosen()

WITHOUT = {  # what each needs that shards have not: second derivatives, whole vectors, outputs of all, one process
    *("outputs", "batches_with_units", "recomputed statistics", "with_processes", "product_memory"),
    *("hessian double_backward", "hessian forward_over_reverse", "hessian, columns at once"),
    *("hessian, columns at once, forward", "hessian, in pieces", "hessian, recomputed statistics", "hessian, to_scipy"),
    *("ggn", "fisher exact", "fisher sampled", "fisher empirical"),
    *("top_eigenpairs, kept", "trace, kept", "diagonal", "solve", "slice_2d, kept", "analyze, kept"),
    *("adam_directions", "direction_to", "plane_through", "pca_directions", "project_trajectory", "check_slice"),
    *("interpolate", "barrier", "convexity_map", "gradient_norm_map", "straight_path", "path_losses", "train_path"),
    *("train_path, chain", "NaturalGradient", "pac_bayes_gaussian"),
}
METRICS_WITHOUT = {
    *("gradient_cosine", "worst_case_gap_adaptive_filter", "worst_case_gap_fisher", "worst_case_gap_normalized_l2"),
    *("worst_case_gap_normalized_linf", "m_sharpness", "eigenvector_alignment", "renyi", "renyi_half"),
    *("renyi_three_halves", "adam_sharpness", "lambda_max_ggn", "trace_ggn", "fisher_rao", "relative_flatness"),
    *("geodesic", "pac_bayes_sam", "weight_norm", "frobenius_norms", "spectral_norms", "ntk_condition_number"),
    *("margin", "path_norm", "activations", "active_neurons", "distance", "m_sharpness_curve", "random_corruption"),
    *("adversarial_corruption", "renyi by layer"),
}
REFUSED = WITHOUT | {f"metric {name}" for name in METRICS_WITHOUT}


def answer(name, folder, mesh=None):
    """What it gives, vectors put together, or what it says; the kind of an error that is no refusal before it."""
    place = Shared(folder / name.replace("/", " "), mesh)
    place.folder.mkdir(exist_ok=True)
    try:
        with patch("device_place.CLOCK", CLOCK | STATED):
            found = numbers(CALLS[name](place))
    except Exception as error:
        return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}\n{error}"
    return [put_together(place.problem, number) for number in found]


def put_together(problem, number):
    if is_sharded(number):
        return gathered(number)
    if problem.shards is None or number.ndim == 0 or len(number) != problem.space.own:
        return number
    return whole(problem, number.reshape(len(number), -1)).reshape(-1, *number.shape[1:])


def process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    torch.save({name: answer(name, Path(folder), mesh) for name in CALLS}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return of_two_ranks(process, tmp_path_factory.mktemp("calls"))


@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_the_numbers_of_one_process_or_says_why_not_in_one_line(found, name, tmp_path):
    first, second = (each[name] for each in found)
    assert (name in REFUSED) == isinstance(first, str) == isinstance(second, str), first
    if name in REFUSED:
        assert first
        assert "\n" not in first + second
        return
    one = answer(name, tmp_path)
    for got in (first, second):
        assert len(got) == len(one)
        for number, expected in zip(got, one, strict=True):
            assert number.shape == expected.shape
            off = (number.double() - expected.double()).nan_to_num().norm()
            assert off <= 1e-4 * expected.double().nan_to_num().norm() + 1e-9
