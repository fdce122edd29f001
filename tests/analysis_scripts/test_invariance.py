"""W1 c and W2 / c around a ReLU leave the function as it is: what moves, what stays, and what one might hope stays."""

from math import inf
from pathlib import Path

import pytest
import torch

from analysis_scripts.sharpness import invariance as script
from landscape.metrics import METRICS
from landscape.problem import Problem

NAMES = {
    "moves": "tr H; λmax; tr diag(H)^½; Euclidean gap; average gap",
    "stays": "adaptive gap, η = 0; adaptive gap, filter-wise; adaptive average; wᵀFw; exact-Fisher gap, first order; "
    "Rényi by layer; Σ |w| Hᵢᵢ^½; relative flatness; path norm; normalised margin",
    "exception": "adaptive gap, η = 0.3; Fisher SAM's 1/(1 + ηf); Rényi, whole network; exact-Fisher gap, ρ = 0.05",
}
BOUNDS = {"moves": (0.1, inf), "stays": (0.0, 1e-6), "exception": (1e-3, inf)}  # of the largest relative change
EXPECTED = {name: expected for expected, names in NAMES.items() for name in names.split("; ")}


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    config = script.Config(inputs=4, hidden=4, samples=120, steps=60)
    return [script.network(config, c) for c in (1.0, 0.2, 5.0)]


def test_all_factors_give_one_function(problems: list[Problem]) -> None:
    outputs = [problem.outputs() for problem in problems]
    assert torch.allclose(outputs[1], outputs[0], rtol=1e-12)
    assert torch.allclose(outputs[2], outputs[0], rtol=1e-12)
    assert problems[0].gradient().norm() < 1  # trained, but no minimum
    assert 0.1 < problems[0].loss() < torch.log(torch.tensor(3.0))


@pytest.mark.parametrize("name", EXPECTED)
def test_what_moves_what_stays_and_what_one_might_hope_stays(problems: list[Problem], name: str) -> None:
    expected, measure = script.known()[name]
    values = [measure(problem).value for problem in problems]
    low, high = BOUNDS[EXPECTED[name]]
    assert low <= max(float((value / values[0] - 1).abs().max()) for value in values[1:]) <= high
    assert expected == EXPECTED[name]


@pytest.mark.parametrize("name", script.biased())
def test_what_stays_where_the_layers_have_biases(name: str) -> None:
    config = script.Config(inputs=4, hidden=4, samples=120, steps=60)
    problems = [script.network(config, c, biases=True) for c in (1.0, 0.2, 5.0)]
    assert torch.allclose(problems[1].outputs(), problems[0].outputs(), rtol=1e-12)
    expected, measure = script.biased()[name]
    low, high = BOUNDS[expected]
    assert low <= script.change([measure(problem).value for problem in problems]) <= high


def test_every_case_of_the_table_is_tested_and_every_metric_has_an_expectation() -> None:
    assert script.known().keys() == EXPECTED.keys()
    assert set(METRICS) >= script.STAY | script.EXCEPTIONS


def test_the_script_writes_table_sentence_and_figure_and_reads_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {"wᵀFw": script.known()["wᵀFw"], "λmax": ("stays", script.known()["λmax"][1])}  # the second is wrong
    cases["Euclidean gap"] = ("exception", script.known()["Euclidean gap"][1])
    monkeypatch.setattr(script, "known", lambda: cases)
    monkeypatch.setattr(script, "biased", dict)
    config = script.Config(hidden=4, samples=20, steps=20, metrics=("weight_norm",), folder=str(tmp_path))
    table = script.main(config)
    assert [row["holds"] for row in table] == [True, False, True, True]
    assert "3 of 4 measures behave as theory says; not so: λmax" in (tmp_path / "invariance.md").read_text()
    assert (tmp_path / "invariance.png").stat().st_size > 10_000
    monkeypatch.setattr(script, "network", None)
    assert script.main(config) == table


def test_a_change_is_the_largest_over_factors_and_entries() -> None:
    values = [torch.tensor([1.0, 2.0]), torch.tensor([1.1, 2.0]), torch.tensor([1.0, 1.0])]
    assert script.change(values) == pytest.approx(0.5)
    assert script.change([values[0], values[0]]) == 0
