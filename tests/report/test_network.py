import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape as ls
from landscape.problem import Problem
from landscape.report import report_network
from landscape.report.network_findings import Effort, NetworkFindings, measure_network
from landscape.report.network_words import about, checks, curvature, limits, meaning, summary

EFFORT = Effort(("gradient_norm", "worst_case_gap", "renyi"), 4, 12, 3, 10, 5, 5)


@pytest.fixture(scope="module")
def problem() -> Problem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        return Problem(net, F.cross_entropy, (torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3))


@pytest.fixture(scope="module")
def found(problem: Problem) -> NetworkFindings:
    return measure_network(problem, {"train": problem.data}, "runs/mine", EFFORT)


def test_the_answer_has_the_loss_the_dense_spectrum_and_the_worst_case(
    problem: Problem, found: NetworkFindings
) -> None:
    dense = torch.linalg.eigvalsh(ls.hessian(problem).dense())
    text = summary(found)
    assert f"At a training loss of {float(problem.loss()):.3g} the largest eigenvalue of the Hessian is " in text
    assert float(re.findall(r"Hessian is ([\d.]+)", text)[0]) == pytest.approx(float(dense[-1]), rel=1e-3)
    assert abs(float(found.total.value) - float(dense.sum())) <= 4 * float(found.total.stderr) + 1e-9
    rise = float(found.measures["worst_case_gap"].value)
    assert f"rises by up to {rise:.3g} ({rise / float(problem.loss()):.0%} of it) within a distance of 0.05" in text
    line = found.line.loss["train"]
    assert text.endswith(f"it is up to {max(float(line[0]), float(line[-1])):.3g}.")


def test_which_network_and_which_data(problem: Problem, found: NetworkFindings) -> None:
    said = about(found)
    with torch.no_grad():
        inputs, targets = problem.data[0]  # type: ignore[index]
        right = float((problem.model(inputs).argmax(1) == targets).double().mean())
    assert said["network"] == f"Sequential of runs/mine, {problem.size} parameters"
    assert said["data"].startswith("30 units in 1 batch")
    assert said["losses"] == f"train {float(problem.loss()):.4g}, accuracy {right:.1%}"


def test_curvature_below_zero_is_told(problem: Problem, found: NetworkFindings) -> None:
    dense = torch.linalg.eigvalsh(ls.hessian(problem).dense())
    top = dense[dense.abs().argsort(descending=True)][: EFFORT.eigenvalues]
    negative = int((top < 0).sum())
    text = " ".join(curvature(found))
    assert (f"{negative} of the 4 eigenvalues" in text) == (negative > 0)
    assert f"of the {problem.size} eigenvalues are below 0" in text


def test_checks_say_what_holds_and_what_to_look_at(found: NetworkFindings) -> None:
    lines = {name: (well, text) for well, name, text in checks(found)}
    assert lines["products"][0]
    assert "held against differences of gradients: they differ by" in lines["products"][1]
    assert lines["eigenvalues"] == (True, "4 of 4 have converged to their bounds")
    assert lines["batch norm"] == (True, "the network has no such layers")
    assert lines["slice: centre"][0]
    assert lines["ascents"][0]
    assert "One network cannot say" in limits(found)[0]


def test_every_measure_has_its_sentence() -> None:
    for name in ls.METRICS:
        assert len(meaning(name)) > 10
        assert "{" not in meaning(name)
    assert "within a distance 0.05" in meaning("worst_case_gap")
    assert meaning("renyi[2]") == meaning("renyi")


def test_the_page_is_one_file_of_the_same_numbers(problem: Problem, tmp_path: Path) -> None:
    said: list[str] = []
    page = report_network(problem, {"train": problem.data}, tmp_path / "a.html", "runs/mine", EFFORT, said.append)
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    assert said == ["eigenvalues, trace and density ...", "sharpness ...", "slices ...", "checks ..."]
    text = page.read_text()
    assert "<title>How sharp is mine?</title>" in text
    dense = torch.linalg.eigvalsh(ls.hessian(problem).dense())
    top = dense[dense.abs().argsort(descending=True)][0]
    assert float(re.findall(r'<th scope="row">1</th><td data-value="([^"]+)"', text)[0]) == pytest.approx(float(top))
    gradient = float(problem.gradient().norm())
    value = re.findall(r'<th scope="row">gradient norm</th><td data-value="([^"]+)"', text)[0]
    assert float(value) == pytest.approx(gradient)
    assert text.count("<img ") == 3
