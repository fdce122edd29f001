"""Bars of eigenvalues, traces, densities and blocks: one step a product, or a pass over the data."""

import io
import re
import sys

import pytest
import torch
from cases import normal

import landscape as ls
from landscape.linalg import products_shown
from landscape.linalg.products_shown import EigenProgress

A = ls.MatrixOperator(torch.diag(torch.arange(1.0, 41.0, dtype=torch.float64)))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def looked_at(monkeypatch) -> Terminal:
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    return shown


def counted(shown: Terminal) -> list[int]:
    """Steps that the bars ended with."""
    return [int(bar) for bar in re.findall(r"(\d+)(?:product|pass|/\d+ \[)[^\r]*\n", shown.getvalue())]


@pytest.mark.parametrize(
    ("ask", "total"),
    [
        (lambda **how: ls.top_eigenpairs(A, 3, **how).matvecs, ""),
        (lambda **how: ls.trace(A, matvecs=12, **how).matvecs, "12/12"),
        (lambda **how: ls.trace(A, matvecs=40, **how).matvecs, "40/40"),  # exact
        (lambda **how: ls.trace(A, rtol=0.5, **how).matvecs, ""),
        (lambda **how: ls.spectral_density(A, probes=2, steps=5, check=0, **how).matvecs, "10/10"),
        (lambda **how: ls.spectral_density(A, probes=2, steps=5, check=0, outliers=2, **how).matvecs, ""),
    ],
)
def test_a_step_is_a_product_and_changes_no_number(ask, total, monkeypatch):
    terminal = looked_at(monkeypatch)
    assert ask(progress=False) == ask(progress=True)
    assert counted(terminal) == [ask(progress=False)]
    assert total in terminal.getvalue()


def test_the_bar_of_eigenvalues_tells_how_many_have_converged(monkeypatch):
    terminal = looked_at(monkeypatch)
    ls.top_eigenpairs(A, 3, progress=True)
    assert "converged=3 of 3" in terminal.getvalue()


def test_short_work_shows_nothing_unless_it_is_asked_to(monkeypatch):
    terminal = looked_at(monkeypatch)
    told: list[EigenProgress] = []
    monkeypatch.setattr(products_shown, "DELAY", 1e6)
    ls.trace(A, matvecs=12)
    ls.top_eigenpairs(A, 3, progress=told.append)
    assert terminal.getvalue() == ""
    assert told[-1].converged == 3
    monkeypatch.setattr(products_shown, "DELAY", 0.0)
    ls.trace(A, matvecs=12)
    assert counted(terminal) == [12]


def test_of_processes_that_repeat_the_work_one_shows_it(monkeypatch):
    monkeypatch.setattr(products_shown, "DELAY", 0.0)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for rank, steps in ((1, []), (0, [12])):
        terminal = looked_at(monkeypatch)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda group=None, rank=rank: rank)
        ls.trace(A, matvecs=12)
        assert counted(terminal) == steps


def test_blocks_count_passes_and_work_inside_other_work_has_no_bar(monkeypatch):
    terminal = looked_at(monkeypatch)
    monkeypatch.setattr(products_shown, "DELAY", 0.0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    data = (normal(20, 3), normal(20, 2))
    problem = ls.Problem(net, torch.nn.functional.mse_loss, data)
    ls.Tracker(problem, every=1, trace_matvecs=4).step()
    ls.metrics.lambda_max(problem)
    assert terminal.getvalue() == ""
    assert counted(terminal) == []
    assert ls.block_spectra(problem, trace_matvecs=4, progress=True).passes == counted(terminal)[0]
