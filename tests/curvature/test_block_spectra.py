import csv

import pytest
import torch
from cases import everything, make, same, seeded

from landscape.curvature import hessian_blocks
from landscape.curvature.block_spectra import block_spectra
from landscape.curvature.blocks import layers
from landscape.storage.results import BlockSpectra


def dense(case, by):
    return {name: block.dense() for name, block in hessian_blocks(case.problem(), by).items()}


@pytest.mark.parametrize(
    ("name", "which"), [("mlp", "LA"), ("conv_bn", "LA"), ("tied", "LM"), ("frozen_unused", "LM"), ("twice", "LA")]
)
def test_eigenvalues_and_traces_are_those_of_the_dense_diagonal_blocks(name, which):
    case = make(name)
    by = {**layers(case.problem()), "whole": "*"}
    found = block_spectra(case.problem(), by, k=3, which=which, tol=1e-9)
    assert list(found.names) == list(by)
    for i, matrix in enumerate(dense(case, by).values()):
        exact = torch.linalg.eigvalsh(matrix)
        order = {"LA": -exact, "LM": -exact.abs()}[which].argsort()
        n = min(3, len(exact))
        scale = float(exact.abs().max())
        torch.testing.assert_close(found.values[i, :n], exact[order][:n], rtol=0, atol=1e-8 * scale + 1e-15)
        assert found.values[i, n:].isnan().all()
        assert found.converged[i].tolist() == [True] * n + [False] * (3 - n)
        assert abs(found.trace[i] - matrix.trace()) <= 4 * found.trace_stderr[i] + 1e-9 * scale
        if len(exact) <= 30:
            assert found.trace_stderr[i] == 0
        assert found.sizes[i] == len(exact)


def test_all_blocks_are_served_by_the_passes_of_the_slowest():
    problem = make("attention").problem()
    together = block_spectra(problem, k=2)
    alone = [block_spectra(problem, {name: names}, k=2) for name, names in layers(problem).items()]
    assert together.passes <= 1.25 * max(one.passes for one in alone)
    assert together.passes < 0.5 * sum(one.passes for one in alone)


def test_the_same_seed_gives_the_same_numbers_and_nothing_is_left_behind():
    case = make("conv_bn")
    before = everything(case.model)
    runs = [block_spectra(case.problem(), generator=seeded(7)) for _ in range(2)]
    assert torch.equal(runs[0].values, runs[1].values)
    assert torch.equal(runs[0].trace, runs[1].trace)
    assert same(before, everything(case.model))


def test_a_result_is_saved_loaded_and_written_as_a_table(tmp_path):
    found = block_spectra(make("conv_bn").problem(), "module", k=2)
    loaded = BlockSpectra.load(found.save(tmp_path / "blocks"))
    assert list(loaded.names) == list(found.names) == ["0", "1", "4", "5"]
    assert torch.equal(loaded.values, found.values)
    assert loaded.passes == found.passes
    with found.to_csv(tmp_path / "table" / "blocks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["block"] for row in rows] == list(found.names)
    assert [float(row["lambda_2"]) for row in rows] == found.values[:, 1].tolist()
    assert [float(row["trace"]) for row in rows] == found.trace.tolist()
    assert [int(row["parameters"]) for row in rows] == [30, 6, 112, 8]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k must be an integer at least 1, got 0"),
        ({"trace_matvecs": 3}, "trace_matvecs must be an integer at least 4, got 3"),
        ({"which": "XX"}, "which must be one of 'LM' | 'LA' | 'SA', got 'XX'"),
        ({"tol": 0.0}, "tol must be positive and finite, got 0.0"),
    ],
)
def test_arguments_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        block_spectra(make("mlp").problem(), **settings)


def test_a_nan_loss_is_one_clear_line():
    case = make("mlp")
    with pytest.raises(ValueError, match="batch 0: the loss is nan"):
        block_spectra(case.problem(data=[(x * float("nan"), t) for x, t in case.batches]))
