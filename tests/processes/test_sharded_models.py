"""A model sharded over two gloo processes, by FSDP2 and by tensor parallelism, against one process with all the data."""

import re
from functools import cache

import pytest
import torch
from served import of_two_ranks
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn import functional as F

from landscape import METRICS, Problem, random_directions
from landscape.curvature import ggn, hessian, hessian_blocks
from landscape.curvature.block_spectra import block_spectra
from landscape.interop import distributed_checkpoint
from landscape.linalg import diagonal, frobenius_norm, spectral_density, top_eigenpairs, trace
from landscape.metrics.average import average_gap
from landscape.metrics.worst_case import surrogate_gap, worst_case_gap
from landscape.processes.space import Space, drawn
from landscape.slices import slice_1d, slice_2d
from landscape.slices.directions.eigen import hessian_directions

BATCHES = {"two and one": ([0, 1], [2]), "all on both": ([1], [1])}
NORMALIZE = {"fsdp": "filter", "tensor parallel": "model"}  # of which the second cuts rows
RUNS = [("fsdp", "two and one"), ("tensor parallel", "all on both")]


def network(kind):
    """FSDP2 shares three rows and five out unevenly, tensor parallel layers only what is even."""
    torch.manual_seed(0)
    first, width = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Tanh()), 5 if kind == "fsdp" else 4
    model = nn.Sequential(first, nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 3)).double()
    model[3].weight.data.mul_(2)
    return model


def data():
    source = torch.Generator().manual_seed(1)
    sizes = [6, 3, 5]
    return [(torch.randn(n, 4, generator=source).double(), torch.randint(3, (n,), generator=source)) for n in sizes]


def sharded(kind, mesh):
    model = network(kind)
    if kind == "fsdp":
        fully_shard(model[0], mesh=mesh)
        return fully_shard(model, mesh=mesh)
    return parallelize_module(model, mesh, {"1": ColwiseParallel(), "3": RowwiseParallel()})


def whole(problem, vectors):
    """Columns (own, k) as (P, k) in the order of one process, on all."""
    if problem.shards is None:
        return vectors
    parts = distributed_checkpoint.parameters_of(problem, vectors).values()
    full = [getattr(part, "full_tensor", lambda part=part: part)() for part in parts]
    return torch.cat([part.reshape(-1, vectors.shape[1]) for part in full])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def numbers(problem, normalize):
    """Everything that is asked of a problem, sharded or not."""
    H, v = hessian(problem), problem.space.normal(2, seeded(1)).T.contiguous()
    loss, gradient = problem.loss_and_gradient()
    image = H @ v
    pairs = top_eigenpairs(H, 4, tol=1e-6, generator=seeded(2))
    density = spectral_density(H, probes=2, steps=5, outliers=1, check=4, generator=seeded(3))
    spectra = block_spectra(problem, "layer", k=1, trace_matvecs=6, generator=seeded(6))
    line = slice_1d(
        problem, pairs.vectors[:, 0] * whole(problem, pairs.vectors)[:, 0].sum().sign(), (-1, 1, 5), progress=False
    )
    d1, d2 = random_directions(problem, 2, normalize=normalize, ignore=None, orthogonal=True, generator=seeded(4))
    plane = slice_2d(problem, d1, d2, (-1.0, 1.0, 2), (-1.0, 1.0, 2), progress=False)
    toward = random_directions(problem, 1, normalize="layer", generator=seeded(4))
    gap = worst_case_gap(problem, rho=0.1, steps=8, restarts=1, generator=seeded(5))
    return {
        "loss": problem.loss(),
        "loss elsewhere": problem.loss(problem.vector() + 0.1 * v[:, 0]),
        "loss beside gradient": loss,
        "gradient": whole(problem, gradient[:, None]),
        "products": whole(problem, image),
        "eigenvalues": pairs.values,
        "leading vector": whole(problem, pairs.vectors[:, :1]).abs(),
        "from a start": top_eigenpairs(H, 2, start=v, generator=seeded(2)).values,
        "blocks of three": top_eigenpairs(H, 3, block_size=3, tol=1e-6, generator=seeded(2)).values,
        "restarts": top_eigenpairs(H, 2, basis_size=8, tol=1e-5, basis_dtype=torch.float32).values,
        "trace": torch.stack(
            [getattr(trace(H, matvecs=10, generator=seeded(7)), part) for part in ("value", "stderr")]
        ),
        "hutch++": trace(H, matvecs=9, method="hutch++", generator=seeded(7)).value,
        "hutchinson": trace(H, matvecs=4, method="hutchinson", generator=seeded(7)).value,
        "nodes": density.nodes,
        "weights": density.weights,
        "moments": torch.tensor(list(density.moments.values())),
        "blocks": spectra.values.nan_to_num(),
        "traces of blocks": spectra.trace,
        "line": line.loss["train"],
        "accuracy": line.accuracy["train"],
        "units": torch.tensor(line.details["units"]["train"]),
        "plane": plane.loss["train"],
        "lengths": plane.norms,
        "cosine": plane.cosine,
        "directions": whole(problem, torch.stack([d1, d2, *toward], dim=1)),
        "eigen directions": whole(problem, torch.stack(list(hessian_directions(problem, 2, scale="model")), dim=1)),
        "worst case": gap.value,
        "its length": torch.tensor(gap.details["length"]),
        "worst case, max norm": worst_case_gap(problem, rho=0.01, p=float("inf"), steps=4).value,
        "surrogate": surrogate_gap(problem).value,
        "average": average_gap(problem, draws=3, generator=seeded(9)).value,
        "lambda max": METRICS["lambda_max"](problem).value,
    }


def process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh, found = init_device_mesh("cpu", (2,)), {}
    all_of_it = data()
    for kind, label in RUNS:
        model = sharded(kind, mesh)
        problem = Problem(model, F.cross_entropy, [all_of_it[i] for i in BATCHES[label][rank]])
        found[kind, label] = numbers(problem, NORMALIZE[kind])
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return of_two_ranks(process, tmp_path_factory.mktemp("sharded"))


@cache
def expected(kind, label):
    all_of_it = data()
    indices = BATCHES[label][0] if label == "all on both" else sum(BATCHES[label], [])
    return numbers(Problem(network(kind), F.cross_entropy, [all_of_it[i] for i in indices]), NORMALIZE[kind])


@pytest.mark.parametrize(("kind", "label"), RUNS)
def test_numbers_are_those_of_one_process(found, kind, label):
    for rank in range(2):
        wrong = {}
        for what, number in expected(kind, label).items():
            off, size = (found[rank][kind, label][what] - number).double().norm(), number.double().norm()
            if not off <= (1e-4 if "vector" in what or "eigen d" in what else 1e-6) * size.clamp(min=1e-6):
                wrong[what] = float(off / size)
        assert not wrong
