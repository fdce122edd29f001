"""Two gloo processes with unequal shards against one process with all the data."""

import re
from functools import cache

import pytest
import torch
from cases import make, normal, same, seeded
from torch import distributed
from torch.utils.data import IterableDataset, TensorDataset

from landscape.block_spectra import block_spectra
from landscape.curvature import fisher, ggn, hessian, over_data
from landscape.distributed import shard
from landscape.linalg import diagonal, spectral_density, top_eigenpairs, trace
from landscape.slices import slice_2d

SHARDS = {"60 + 4": ([0], [1]), "64 + 0": ([0, 1], []), "0 + 64": ([], [0, 1])}
RUNS = [
    ("mlp", "eval", "60 + 4"),
    ("mlp", "eval", "64 + 0"),
    ("conv_bn", "recompute", "60 + 4"),
    ("conv_bn", "recompute", "0 + 64"),
    ("tokens", "eval", "60 + 4"),
]


class Endless(IterableDataset):
    def __iter__(self):
        return iter(int, 1)


def numbers(problem):
    """Everything that is asked of a problem, in one process and in two."""
    H, v = hessian(problem), normal(problem.size, seed=1)
    pairs = top_eigenpairs(H, 3, tol=1e-9, generator=seeded(2))
    density = spectral_density(ggn(problem), probes=2, steps=8, generator=seeded(3))
    return {
        "loss": problem.loss(),
        "gradient": problem.gradient(),
        "H v": H @ v,
        "H v from kept graphs": H @ v,
        "G V": ggn(problem) @ torch.stack([v, v.cos()], dim=1),
        "F v": fisher(problem, "empirical") @ v,
        "eigenvalues": pairs.values,
        "top eigenvector": pairs.vectors[:, 0] * pairs.vectors[:, 0].sum().sign(),
        "trace": trace(H, matvecs=12, generator=seeded(4)).value,
        "diagonal": diagonal(H, matvecs=12, generator=seeded(5)).value,
        "blocks": block_spectra(problem, "module", trace_matvecs=4, max_matvecs=8, generator=seeded(6)).values[:, 0],
        "moments": (density.nodes * density.weights).sum(1),
    }


def message_of(call):
    try:
        call()
    except (ValueError, ZeroDivisionError) as error:
        return str(error)
    return ""


def failures(rank, group):
    """What each process hears when process 1 fails, and a sum afterwards, which shows that none waits any more."""
    case = make("mlp")
    bad = [(x * (float("nan") if rank else 1), t) for x, t in case.batches]
    wrong, fine = case.problem(data=bad).with_processes(group), case.problem().with_processes(group)
    H = hessian(fine)
    before = H @ H.w
    if rank:
        H._served = lambda *_: 1 / 0
    moved = make("mlp").problem()
    if rank:
        with torch.no_grad():
            next(moved.model.parameters()).add_(1)
    return {
        "loss": message_of(wrong.loss),
        "product": message_of(lambda: hessian(wrong).matvec(H.w)),
        "kept": message_of(lambda: H @ H.w),
        "weights": message_of(lambda: moved.with_processes(group)),
        "pairs": message_of(fine.pairs),
        "empty": message_of(case.problem(data=[]).with_processes(group).loss),
        "shape": message_of(lambda: fine.mean(lambda batch: batch.w)),
        "afterwards": bool(before.isfinite().all()) and float(case.problem().with_processes(group).loss()),
    }


def surface(problem, **how):
    """A slice of 3 x 3 points, which two processes cannot share evenly."""
    span, direction = (-1.0, 1.0, 3), normal(problem.size, seed=7)
    found = slice_2d(problem, direction, direction.cos(), span, span, progress=False, **how)
    return {"loss": found.loss["train"], "accuracy": found.accuracy["train"]}


def process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    group, found = distributed.group.WORLD, {}
    for name, policy, label in RUNS:
        case = make(name)
        data = [case.batches[i] for i in SHARDS[label][rank]]
        found[name, policy, label] = numbers(case.problem(data=data, batch_norm=policy).with_processes(group))
    over_data.GRAPH_BYTES = 0 if rank else over_data.GRAPH_BYTES  # one process keeps its graphs, the other does not
    case = make("mlp")
    data = case.batches[rank : rank + 1]
    found["mlp", "eval", "mixed"] = numbers(case.problem(data=data).with_processes(group))
    over_data.GRAPH_BYTES = 2**30
    found["failures"] = failures(rank, group)
    path = f"{folder}/walk.jsonl"
    found["points shared"] = surface(make("mlp").problem(), group=group, checkpoint=path)
    found["points kept"] = surface(make("mlp").problem(), group=group, checkpoint=path)
    found["data shared"] = surface(case.problem(data=data).with_processes(group))
    found["shard"] = [int(x) for (x,) in shard(TensorDataset(torch.arange(5)), group)]
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@cache
def expected(name, policy):
    return numbers(make(name).problem(batch_norm=policy))


@pytest.mark.parametrize(("name", "policy", "label"), [*RUNS, ("mlp", "eval", "mixed")])
def test_two_processes_give_the_numbers_of_one_and_both_the_same_bits(found, name, policy, label):
    one = expected(name, policy)
    assert same(list(found[0][name, policy, label].values()), list(found[1][name, policy, label].values()))
    for what, number in one.items():
        error = (found[0][name, policy, label][what] - number).norm() / number.norm()
        assert error <= (1e-5 if "vector" in what else 1e-9), what


def test_a_failure_in_one_process_is_raised_in_all_and_none_waits(found):
    here, there = found[1]["failures"], found[0]["failures"]
    other = "1 other process(es) failed in this pass over the data; see their messages"
    assert [there[key] for key in ("loss", "product", "kept")] == [other] * 3
    assert here["loss"] == here["product"] == "batch 0: the loss is nan; check the weights, inputs and targets for NaN"
    assert here["kept"] == "division by zero"
    assert here["afterwards"] == there["afterwards"] == pytest.approx(float(make("mlp").problem().loss()), rel=1e-12)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("weights", "the processes' weights must be equal"),
        ("pairs", r"pairs are those of one process.*with_processes\(None\)"),
        ("empty", "data must hold at least one batch of positive weight"),
        ("shape", r"shape must be that of the term, \(51,\), got \(\); pass shape="),
    ],
)
def test_what_cannot_be_asked_of_several_processes(found, key, message):
    for rank in range(2):
        assert re.match(message, found[rank]["failures"][key])


def test_processes_share_the_points_of_a_slice_or_its_data(found):
    one = surface(make("mlp").problem())
    for rank in range(2):
        for how in ("points shared", "points kept"):
            assert same(list(found[rank][how].values()), list(one.values()))
        for name, values in found[rank]["data shared"].items():
            torch.testing.assert_close(values, one[name], rtol=1e-12, atol=0.0)


def test_a_shard_repeats_no_sample(found):
    assert [found[rank]["shard"] for rank in range(2)] == [[0, 2, 4], [1, 3]]
    with pytest.raises(ValueError, match="dataset must have a length, got Endless"):
        shard(Endless(), None)


def test_one_process_exchanges_nothing():
    problem = make("mlp").problem()
    assert problem.with_processes(None).loss() == problem.loss()
