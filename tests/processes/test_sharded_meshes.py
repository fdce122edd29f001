"""Models on meshes of two axes (HSDP), or with parameters that FSDP2 leaves whole, against one process."""

import pytest
import torch
from served import of_ranks
from sharded_networks import data, network, seeded, sharded, whole
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.nn import functional as F

from landscape import Problem
from landscape.curvature import hessian

HYBRID = {2: [(2, 1), (1, 2)], 4: [(2, 2)]}  # copies × shards, by the number of processes
IGNORED = {"a layer's bias": ["1.bias"], "all of a group": ["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"]}
RUNS = [(2, kind) for kind in (*map(str, HYBRID[2]), *IGNORED)] + [(4, str(shape)) for shape in HYBRID[4]]


def share(rank, count):
    """Places of the batches of a process."""
    return [[0, 1], [2]][rank] if count == 2 else [rank % 3]


def numbers(problem):
    H, v = hessian(problem), problem.space.normal(2, seeded(1)).T.contiguous()
    loss, gradient = problem.loss_and_gradient()
    return {
        "weights": whole(problem, problem.vector()[:, None]),
        "random vectors": whole(problem, v),
        "loss": loss,
        "loss elsewhere": problem.loss(problem.vector() + 0.1 * v[:, 0]),
        "gradient": whole(problem, gradient[:, None]),
        "products": whole(problem, H @ v),
    }


def process(rank, folder, count=2):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    mine = [data()[place] for place in share(rank, count)]
    meshes = {
        str(shape): init_device_mesh("cpu", shape, mesh_dim_names=("copies", "shards")) for shape in HYBRID[count]
    }
    models = {kind: sharded("fsdp", mesh) for kind, mesh in meshes.items()}
    if count == 2:
        mesh = init_device_mesh("cpu", (2,))
        models |= {kind: sharded("fsdp", mesh, ignored) for kind, ignored in IGNORED.items()}
    torch.save(
        {kind: numbers(Problem(model, F.cross_entropy, mine)) for kind, model in models.items()}, f"{folder}/{rank}.pt"
    )
    distributed.destroy_process_group()


def process_of_four(rank, folder):
    process(rank, folder, 4)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    processes = {2: process, 4: process_of_four}
    return {count: of_ranks(each, tmp_path_factory.mktemp(f"{count}"), count) for count, each in processes.items()}


@pytest.mark.parametrize(("count", "kind"), RUNS)
def test_numbers_are_those_of_one_process(found, count, kind):
    places = [place for rank in range(count) for place in share(rank, count)]
    one = numbers(Problem(network("fsdp"), F.cross_entropy, [data()[place] for place in places]))
    for rank in range(count):
        got = found[count][rank][kind]
        assert got["random vectors"].equal(one["random vectors"])
        assert got["weights"].equal(one["weights"])
        for what, number in one.items():
            assert (got[what] - number).norm() <= 1e-6 * number.norm(), what
