"""The critical sharpness and the Tracker on a model sharded over two gloo processes, against one process."""

import json
import re
from pathlib import Path

import pytest
import torch
from served import of_two_ranks
from sharded_networks import data, message_of, network, sharded, whole
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.nn import functional as F

from landscape import Problem, Tracker, analyze
from landscape.curvature.critical_step import next_update
from landscape.metrics import critical_sharpness, preconditioned_sharpness

FINE = 1e-9  # tol of the brackets that are compared
OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-2),
}
LR = {"SGD": 0.1, "AdamW": 1e-2, "RMSprop": 1e-2}
COLUMNS = ("loss", "gradient_norm", "lambda_max", "alignment", "weight_norm", "gap", "cosine", "trace")
COLUMNS += ("preconditioned", "threshold", "critical_sharpness", "e_alignment")
WARM = ("lambda_max", "gap", "trace", "critical_sharpness")  # from the last eigenvector, whose sign is chance
BY_PRODUCTS = ("lambda_max", "alignment", "trace", "preconditioned")  # differences of gradients


def trained(model, kind):
    """Two steps on batches that all processes have alike."""
    optimizer = OPTIMIZERS[kind](model.parameters())
    for x, t in data()[:2]:
        optimizer.zero_grad()
        F.cross_entropy(model(x), t).backward()
        optimizer.step()
    return optimizer


def numbers(make, batches, folder):
    """Everything that is compared; `make` gives a fresh network."""
    model = make()
    problem, first = Problem(model, F.cross_entropy, batches), Problem(model, F.cross_entropy, data()[:1])
    g = problem.gradient()
    found = {
        "along the gradient": critical_sharpness(problem, tol=FINE).value,
        "of two losses": critical_sharpness(problem, along=first, tol=FINE).value,
        "along an update": critical_sharpness(problem, update=g.sign(), tol=FINE).value,
        "from a start": critical_sharpness(problem, update=g, start=0.3, tol=FINE).value,
        "at a tolerance": critical_sharpness(problem).value,
        "analysed": analyze(problem, ["critical_sharpness"], progress=False)["critical_sharpness"].value,
    }
    for kind in OPTIMIZERS:
        model = make()
        optimizer, problem = trained(model, kind), Problem(model, F.cross_entropy, batches)
        w, g = problem.vector(), problem.gradient()
        update = next_update(problem, optimizer, g)
        found[f"step of {kind}"] = whole(problem, update[:, None])
        found[f"along {kind}"] = critical_sharpness(problem, optimizer=optimizer, tol=FINE).value
        if kind == "RMSprop":
            found["preconditioned"] = preconditioned_sharpness(problem, optimizer=optimizer).value
        if kind == "AdamW":
            how = {"critical": True, "rho": 0.1, "trace_matvecs": 8, "perturbation": lambda g=g: g.abs()}
            tracker = Tracker(problem, every=1, optimizer=optimizer, log=folder / "log", **how)
            first, second = tracker.step(), tracker.step()
            found |= {f"row: {name}": torch.tensor(getattr(first, name)) for name in COLUMNS}
            found |= {f"next row: {name}": torch.tensor(getattr(second, name)) for name in WARM}
        for p, part in zip(problem.parameters, problem.placed(problem.layout.unflatten(g)), strict=True):
            p.grad = part
        optimizer.step()
        found[f"{kind} has gone"] = whole(problem, ((w - problem.vector()) / LR[kind])[:, None])
    return found


def refusals(rank, mesh):
    model, before = sharded("fsdp", mesh), network("fsdp")
    batches = data()
    problem, whole_one = (Problem(each, F.cross_entropy, batches) for each in (model, before))
    g = problem.gradient()
    early = network("fsdp")
    held = torch.optim.SGD(early.parameters(), lr=0.1)
    asked = {
        "shape on one": lambda: critical_sharpness(problem, update=g[rank:]),
        "tol on one": lambda: critical_sharpness(problem, tol=0.1 * (1 - rank)),
        "lr on one": lambda: critical_sharpness(problem, optimizer=torch.optim.SGD(model.parameters(), lr=1.0 - rank)),
        "not sharded": lambda: critical_sharpness(problem, along=whole_one),
        "not sharded itself": lambda: critical_sharpness(whole_one, along=problem),
        "zero": lambda: critical_sharpness(problem, update=0 * g),
        "uphill": lambda: critical_sharpness(problem, update=-g),
        "another model's": lambda: critical_sharpness(problem, optimizer=held),
        "unsharded kind": lambda: critical_sharpness(problem, optimizer=torch.optim.Adafactor(model.parameters())),
    }
    return {name: message_of(call) for name, call in asked.items()} | {"afterwards": problem.loss()}


def process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh, batches = init_device_mesh("cpu", (2,)), data()
    found = numbers(lambda: sharded("fsdp", mesh), batches[:2] if rank == 0 else batches[2:], Path(folder))
    problem = Problem(sharded("fsdp", mesh), F.cross_entropy, batches)
    mine = (1 - rank) * problem.gradient()  # zero on one of the two
    found["masked"] = whole(problem, mine[:, None]), critical_sharpness(problem, update=mine, tol=FINE).value
    starts = critical_sharpness(problem, start=0.1 * (1 + rank))
    found["different starts"] = starts.details["low"], starts.details["high"]
    found["refusals"] = refusals(rank, mesh)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("critical")


@pytest.fixture(scope="module")
def found(folder):
    return of_two_ranks(process, folder)


def test_numbers_are_those_of_one_process(found, tmp_path):
    one = numbers(lambda: network("fsdp"), data(), tmp_path)
    for got in found:
        for what, number in one.items():
            close = 1e-4 if any(name in what for name in BY_PRODUCTS) else 1e-6
            close = (
                1e-12 if what == "at a tolerance" else close
            )  # the same steps, from the same start in all its digits
            assert (got[what] - number).norm() <= close * number.norm(), what


def test_the_update_is_the_step_that_the_optimiser_then_makes(found):
    for got in found:
        for kind in OPTIMIZERS:
            torch.testing.assert_close(got[f"step of {kind}"], got[f"{kind} has gone"], rtol=1e-9, atol=1e-12)


def test_an_update_that_is_zero_on_one_process_is_none(found):
    for got in found:
        update, value = got["masked"]
        assert 0 < int((update == 0).sum()) < len(update)
        one = critical_sharpness(Problem(network("fsdp"), F.cross_entropy, data()), update=update[:, 0], tol=FINE)
        torch.testing.assert_close(value, one.value, rtol=1e-6, atol=0.0)


def test_processes_that_start_apart_go_on_together(found):
    assert found[0]["different starts"] == found[1]["different starts"]
    low, high = found[0]["different starts"]
    assert low <= float(critical_sharpness(Problem(network("fsdp"), F.cross_entropy, data()), tol=FINE).value) <= high


def test_rows_are_written_once(found, folder):
    rows = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[1]["critical_sharpness"] == pytest.approx(float(found[1]["next row: critical_sharpness"]))


OTHER = "another process has refused this call; see its message"
REFUSED = {
    "shape on one": (OTHER, r"update must be .*, got .*"),
    "tol on one": (OTHER, "tol must be positive and finite, got 0.0"),
    "lr on one": (OTHER, "optimizer must have a learning rate above 0, got 0; measure after the first step"),
    "not sharded": ("along must be a problem on the same parameters, sharded alike, got P = .*",),
    "not sharded itself": ("along must be a problem on the same parameters, sharded alike, got P = .*",),
    "zero": ("the update is 0, as at a stationary point: .*",),
    "uphill": ("the update must lead downhill, .*",),
    "another model's": ("optimizer must hold the problem's parameters, 0.0.weight, .* it does not; .*",),
    "unsharded kind": (r"optimizer must step on sharded parameters, Adafactor does not \(.*\); give update=",),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_said_in_one_line_on_both_processes(found, what):
    for rank in range(2):
        said = found[rank]["refusals"][what]
        assert re.fullmatch(REFUSED[what][min(rank, len(REFUSED[what]) - 1)], said), said
    assert found[0]["refusals"]["afterwards"].equal(found[1]["refusals"]["afterwards"])
