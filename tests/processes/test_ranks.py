"""Two gloo processes with unequal shards against one process with all the data."""

import re
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from cases import make, normal, same, seeded, symmetric
from served import of_two_ranks
from torch import distributed
from torch.nn import functional as F
from torch.utils.data import IterableDataset, TensorDataset

from landscape.curvature import fisher, ggn, hessian, over_data
from landscape.curvature.block_spectra import block_spectra
from landscape.linalg import diagonal, spectral_density, top_eigenpairs, trace
from landscape.linalg.basis import Basis
from landscape.linalg.operator import MatrixOperator
from landscape.linalg.sharded_basis import ShardedBasis
from landscape.processes import shard
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
    """The kind of its error and what it says. It is compared later: a process that ended here would leave the other."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


STORED = {
    "plain": {},
    "blocks": {"block_size": 3},
    "restarts": {"basis_size": 12, "tol": 1e-9},
    "rounded": {"basis_dtype": torch.float32, "basis_size": 14},
    "a start": {"start": normal(51, 2)},
    "elsewhere": {"basis_device": "cpu", "which": "SA"},
}


def stored(problem, group=None):
    """Eigenpairs with the basis whole, or dealt out to the processes."""
    H = hessian(problem)
    return {
        name: vars(top_eigenpairs(H, 4, basis_group=group, generator=seeded(7), **settings))
        for name, settings in STORED.items()
    }


def dealt_out(group):
    """The operations of a basis whose rows are dealt out, on numbers that are the same on all ranks."""
    A = MatrixOperator(symmetric(torch.linspace(1, 2, 7)))
    found = {}
    for kept in (torch.float64, torch.bfloat16):
        for name, basis in (("own", ShardedBasis(A, 9, None, kept, group)), ("whole", Basis(A, 9, None, kept))):
            block, numbers = normal(6, 7), normal(2, 4, seed=1)
            basis.store(0, block)
            basis.move(3, 6, 2)
            found[name, kept] = [
                basis.errors[:8].clone(),
                basis.components(block[:2], 1, 5),
                basis.take_out(block[:2].clone(), numbers, 1),
                basis.combine(numbers),
                basis.rotate(torch.linalg.qr(normal(6, 3, seed=2))[0]),
                basis.row_block(0, 8),
            ]
            found[name, kept, "entries"] = basis.rows.shape[1]
    few = MatrixOperator(torch.eye(1).double())
    found["one entry"] = top_eigenpairs(few, 1, basis_group=group).values
    found["checkpoint"] = message_of(lambda: top_eigenpairs(few, 1, basis_group=group, resume="a.npz"))
    return found


def missing_derivative(z, t, *, faulty):
    """Σ z² / 2B more, whose second derivative is left out where it is faulty."""
    squares = (z.detach() * z - z.detach().square() / 2) if faulty else z.square() / 2
    return F.cross_entropy(z, t) + squares.sum() / len(z)


def failures(rank, group):
    """What each process hears when process 1 fails, and a sum afterwards, which shows that none waits any more."""
    case = make("mlp")
    bad = [(x * (float("nan") if rank else 1), t) for x, t in case.batches]
    wrong, fine = case.problem(data=bad).with_processes(group), case.problem().with_processes(group)
    H = hessian(fine)
    before = H @ H.w
    if rank:
        H._image = lambda *_: 1 / 0
    missed = partial(missing_derivative, faulty=rank == 1)
    faulty = replace(case, criterion=missed).problem().with_processes(group)
    everywhere = replace(case, criterion=partial(missing_derivative, faulty=True)).problem().with_processes(group)
    moved = make("mlp").problem()
    if rank:
        with torch.no_grad():
            next(moved.model.parameters()).add_(1)
    return {
        "loss": message_of(wrong.loss),
        "product": message_of(lambda: hessian(wrong).matvec(H.w)),
        "kept": message_of(lambda: H @ H.w),
        "verification": message_of(lambda: hessian(faulty, mode="double_backward") @ H.w),
        "verification everywhere": message_of(lambda: hessian(everywhere, mode="double_backward") @ H.w),
        "by differences": float((hessian(faulty) @ H.w).norm()),
        "weights": message_of(lambda: moved.with_processes(group)),
        "batches_with_units": message_of(fine.batches_with_units),
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
    over_data.GRAPHS = 0 if rank else over_data.GRAPHS  # one process keeps its graphs, the other does not
    case = make("mlp")
    data = case.batches[rank : rank + 1]
    found["mlp", "eval", "mixed"] = numbers(case.problem(data=data).with_processes(group))
    over_data.GRAPHS = 1 / 4
    found["failures"] = failures(rank, group)
    case = make("mlp")
    found["stored"] = stored(case.problem(data=[case.batches[rank]]).with_processes(group), group)
    found["dealt out"] = dealt_out(group)
    path = f"{folder}/walk.jsonl"
    found["points shared"] = surface(make("mlp").problem(), group=group, resume=path)
    found["points kept"] = surface(make("mlp").problem(), group=group, resume=path)
    found["data shared"] = surface(case.problem(data=data).with_processes(group))
    found["shard"] = [int(x) for (x,) in shard(TensorDataset(torch.arange(5)), group)]
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return of_two_ranks(process, tmp_path_factory.mktemp("processes"))


@cache
def expected(name, policy):
    return numbers(make(name).problem(batch_norm=policy))


@cache
def expected_stored():
    return stored(make("mlp").problem())


@pytest.mark.parametrize(("name", "policy", "label"), [*RUNS, ("mlp", "eval", "mixed")])
def test_two_processes_give_the_numbers_of_one_and_both_the_same_bits(found, name, policy, label):
    one = expected(name, policy)
    assert same(list(found[0][name, policy, label].values()), list(found[1][name, policy, label].values()))
    for what, number in one.items():
        error = (found[0][name, policy, label][what] - number).norm() / number.norm()
        assert error <= (1e-5 if "vector" in what else 1e-9), what


@pytest.mark.parametrize("name", STORED)
def test_a_basis_dealt_out_to_the_processes_gives_the_pairs_of_one(found, name):
    here, there = (found[rank]["stored"][name] for rank in range(2))
    one = expected_stored()[name]
    assert max(here["verified"], there["verified"]) < 1e-4  # each on its own data
    assert all(same(here[field], there[field]) for field in here if field != "verified")
    assert here["converged"].equal(one["converged"])
    assert ((here["values"] - one["values"]).abs() <= 1e-6 * one["values"].abs()).all()
    matrix = hessian(make("mlp").problem()).dense()
    V = here["vectors"]
    assert ((matrix @ V - V * here["values"]).norm(dim=0) <= here["residuals"] + 1e-12).all()
    assert (V.T @ V - torch.eye(4)).abs().max() < 1e-12


@pytest.mark.parametrize("kept", [torch.float64, torch.bfloat16])
def test_rows_dealt_out_do_what_whole_rows_do(found, kept):
    for rank, entries in enumerate((4, 3)):
        own = found[rank]["dealt out"]
        assert (own["own", kept, "entries"], own["whole", kept, "entries"]) == (entries, 7)
        for mine, whole in zip(own["own", kept], own["whole", kept], strict=True):
            torch.testing.assert_close(mine, whole, rtol=1e-12, atol=1e-14)


def test_a_basis_dealt_out_may_leave_a_process_nothing_and_keeps_no_state(found):
    for rank in range(2):
        assert found[rank]["dealt out"]["one entry"].tolist() == [1.0]
        assert found[rank]["dealt out"]["checkpoint"] == (
            "ValueError: resume must be None where a basis_group keeps the basis, got a.npz; leave one of them out"
        )


def test_a_failure_in_one_process_is_raised_in_all_and_none_waits(found):
    here, there = found[1]["failures"], found[0]["failures"]
    other = "ValueError: 1 other process(es) failed in this pass over the data; see their messages"
    assert [there[key] for key in ("loss", "product", "kept")] == [other] * 3
    nan = "BatchError: batch 0: the loss is nan; check the weights, inputs and targets for NaN"
    assert here["loss"] == here["product"] == nan
    assert here["kept"] == "ZeroDivisionError: division by zero"
    wrong = "ValueError: batch 0: the product by double_backward is off by .* use mode='auto'"
    assert there["verification"] == other
    for said in (here["verification"], here["verification everywhere"], there["verification everywhere"]):
        assert re.fullmatch(wrong, said)
    assert here["by differences"] == there["by differences"] > 0
    assert here["afterwards"] == there["afterwards"] == pytest.approx(float(make("mlp").problem().loss()), rel=1e-12)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("weights", "the processes' weights must be equal"),
        ("batches_with_units", r"batches_with_units are those of one process.*with_processes\(None\)"),
        ("empty", "data must hold at least one batch of positive weight"),
        ("shape", r"shape must be that of the term, \(51,\), got \(\); pass shape="),
    ],
)
def test_what_cannot_be_asked_of_several_processes(found, key, message):
    for rank in range(2):
        assert re.match(f"ValueError: {message}", found[rank]["failures"][key])


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
