import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis_scripts.sharpness import equal_loss, equal_loss_transformers, gap_study, sharpness_vs_generalization
from analysis_scripts.sharpness.gap_claims import claims
from analysis_scripts.studies import section
from landscape.report.evidence import Evidence
from landscape.study import Correlation

ROOT = Path(__file__).parents[2]
SCRIPT = vars(sharpness_vs_generalization)
Config = SCRIPT["Config"]


def test_the_full_grid_has_every_axis(tmp_path: Path) -> None:
    whole = SCRIPT["study"](replace(Config(), runs=str(tmp_path)))
    assert len(whole.members) >= 48
    assert whole.axes == ["rule", "lr", "batch_size", "weight_decay", "label_noise"]
    assert whole.cluster == whole.axes


def test_the_study_at_one_loss_has_two_kinds_of_network_and_all_stop_there() -> None:
    whole = equal_loss.study(equal_loss.Config())
    kinds = [own.chosen["network"] for own in whole.members.values()]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert list(counts) == ["perceptron 32 32", "perceptron 64 64", "residual", "residual batch norm"]
    assert len(kinds) >= 200
    assert {own.run.stop_at_loss for own in whole.members.values()} == {0.1}
    assert len({own.folder for own in whole.members.values()}) == len(kinds)
    assert whole.cluster == ["network", "rule", "label_noise", "lr", "batch_size", "weight_decay"]
    vits = equal_loss_transformers.study(equal_loss_transformers.Config())
    assert len(vits.members) >= 24
    assert "geodesic" in (vits.analysis.metrics or ())


def test_families_are_variants_of_one_name() -> None:
    found = gap_study.families(("renyi", "renyi_half", "average_gap", "worst_case_gap_fisher", "worst_case_gap"))
    assert found == {
        "Rényi order": ("renyi", "renyi_half"),
        "ball of the worst case": ("worst_case_gap_fisher", "worst_case_gap"),
    }


def correlation(tau: float, psi: dict[str, float], **changes: Any) -> Correlation:
    """An interval of .1 to either side, also given the training loss, where the sign is turned."""
    mean = sum(value for axis, value in psi.items() if axis != "seed") / len(psi)
    return Correlation(**{
        "tau": tau, "low": tau - 0.1, "high": tau + 0.1, "psi": psi, "psi_mean": mean,
        "count": 9, "clusters": 9, "information": 0.1, "sign_error": 0.5, "partial": -tau, "partial_low": -tau - 0.1,
        "partial_high": -tau + 0.1, "p": 0.01, "p_corrected": 0.01, **changes,
    })  # fmt: skip


def evidence(held: float, **correlations: Correlation) -> Evidence:
    found = {"train_loss": correlation(0.5, {"lr": 0.1}), **correlations}
    return Evidence([{}] * 9, ["lr", "width", "seed"], ["lr", "width"], found, {}, [], {}, {}, {}, held=held)


def test_claims_are_judged_where_the_training_loss_is_held() -> None:
    psi = {"lr": 0.6, "width": 0.7, "seed": -1.0}
    balls = {"worst_case_gap": correlation(0.3, psi), "average_gap": correlation(0.3, psi)}
    for held, verdict in ((0.1, "agrees"), (0.0, "differs")):
        first = claims(evidence(held, **balls))[0]
        assert first.verdict == verdict
    one = {**balls, "average_gap": correlation(0.3, psi, p_corrected=0.2)}
    assert claims(evidence(0.1, **one))[0].verdict == "cannot say"
    assert len(claims(evidence(0.1, **one))) == 2
    for width, verdict in ((0.7, "cannot say"), (-0.1, "agrees")):
        own = {
            "trace": correlation(0.3, {**psi, "width": width}),
            "renyi": correlation(0.3, {"lr": -0.9, "width": 1.0}),
        }
        _, robust, loss, renyi, trace = claims(evidence(0.0, **own))
        assert robust.verdict == verdict
        assert f"psi {min(width, 0.6):+.2f} along" in robust.found
        assert (loss.verdict, renyi.verdict, trace.verdict) == ("agrees", "differs", "cannot say")
    strong = claims(evidence(0.0, renyi=correlation(0.7, psi), trace=correlation(0.05, psi)))[-2:]
    assert [own.verdict for own in strong] == ["agrees", "agrees"]


def test_the_gallery_says_what_the_study_at_one_loss_found() -> None:
    folder = ROOT / "figures/equal_loss"
    with (folder / "correlations.csv").open(newline="") as file:
        found = {row["metric"]: row for row in csv.DictReader(file) if row["target"] == "generalization_gap"}
    text = (ROOT / "docs/gallery.md").read_text().split("analysis_scripts.sharpness.equal_loss`")[1].split("```")[0]
    named = re.findall(r"`(\w+)` (−?\.\d\d)", text)
    assert len(named) >= 6
    for name, tau in named:
        assert float(tau.replace("−", "-")) == pytest.approx(float(found[name]["tau"]), abs=0.00501)
    sure = [
        name
        for name, own in found.items()
        if float(own["p_corrected"]) < 0.05 and float(own["low"]) * float(own["high"]) > 0
    ]
    assert f"{len(sure)} of {len(found)} metrics follow the gap" in text
    rising = sorted(sure, key=lambda name: -float(found[name]["tau"]))
    assert [name for name, _ in named[:4]] == rising[:4]
    assert (folder / "report.html").stat().st_size < 1_000_000


def test_a_small_run_goes_on_and_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = {name: getattr(Config(), name)[:1] for name in ("batch_size", "weight_decay", "label_noise", "seed")}
    config = Config(
        rules=("sgd", "sam"), hidden=((8,),), epochs=1, samples=100, metrics=("trace", "gradient_norm"), workers=1,
        runs=str(tmp_path / "runs"), folder=str(tmp_path / "out"), **one,
    )  # fmt: skip
    page = SCRIPT["main"](config)
    told = capsys.readouterr().out
    assert "4 networks on 1 processes, 2 metrics each" in told
    kept = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert kept["config"]["epochs"] == 1
    assert kept["sentence"] in told
    assert {claim["paper"] for claim in kept["claims"]} == {
        "Jiang et al. 2020",
        "Dziugaite et al. 2020",
        "Rényi sharpness, abstract",
    }
    text = page.read_text()
    assert "4 networks were compared, which differ in rule, lr;" in text
    assert '<img src="tau.png"' in text
    assert "data:image" not in text
    part = section(tmp_path / "out")
    assert all(sentence in part for sentence in kept["findings"][:2])
    names = [line.split(" | ")[0].removeprefix("| ") for line in part.splitlines() if line.startswith("| ")]
    assert names == ["metric", *(name.replace("_", " ") for name in kept["order"])]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("m*.*")}
    SCRIPT["main"](config)
    assert "about 0 minutes" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("m*.*")} == before
