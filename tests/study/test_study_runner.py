import csv
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html import escape
from multiprocessing import active_children
from pathlib import Path
from time import sleep

import pytest
import torch
from tqdm import tqdm

from landscape.curvature import hessian
from landscape.report import report_study
from landscape.report.answer import answer
from landscape.report.evidence import gather
from landscape.report.page import OUTCOMES
from landscape.report.summary import limits
from landscape.storage.results import Slice2D
from landscape.study import correlate, study_runner
from landscape.study.network_record import Analysis, cut, load_density, load_run, measure
from landscape.study.own_checkpoint import OwnCheckpoint
from landscape.study.study_runner import StudyConfig, broken, costs, costs_alone, grid, run_study, table

BASE = {"label_noise": 0.2, "model": "mlp", "model_settings": {"hidden": (8,)}, "epochs": 2, "batch_size": 400}
ANALYSIS = Analysis(
    metrics=("lambda_max", "trace", "renyi", "m_sharpness"),
    settings={"m_sharpness": {"m": 100}, "trace": {"matvecs": 12}},
    samples=200,
    probes=2,
    steps=8,
    line_points=5,
    plane_points=5,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    folder = tmp_path_factory.mktemp("study")
    networks = grid(
        folder, BASE, {"optimizer": ["sgd", "sam"], "seed": [0, 1]}, {"sam": {"rule_settings": {"rho": 0.1}}}
    )
    config = StudyConfig(networks, ANALYSIS, workers=1)
    run_study(config, progress=False)
    return config


def test_a_grid_has_every_combination_with_each_optimizers_own_settings(tmp_path: Path) -> None:
    networks = grid(tmp_path, BASE, {"optimizer": ["sgd", "sam"], "lr": [0.1, 0.2]}, {"sam": {"epochs": 3}})
    assert list(networks) == ["sgd-lr0.1", "sgd-lr0.2", "sam-lr0.1", "sam-lr0.2"]
    assert [network.run.epochs for network in networks.values()] == [2, 2, 3, 3]
    with pytest.raises(ValueError, match="settings must be fields of TrainConfig, got learning_rate"):
        grid(tmp_path, {"learning_rate": 0.1}, {"seed": [0]})


def test_a_row_holds_what_its_checkpoint_gives(study: StudyConfig) -> None:
    rows = table(study)
    assert [(row["rule"], row["seed"]) for row in rows] == [("sgd", 0), ("sgd", 1), ("sam", 0), ("sam", 1)]
    folder = study.members["sam-seed1"].folder
    whole = load_run(folder)
    assert rows[3]["train_loss"] == pytest.approx(float(whole.loss()), rel=1e-5)
    assert rows[3]["generalization_gap"] == rows[3]["test_loss"] - rows[3]["train_loss"]
    dense = torch.linalg.eigvalsh(hessian(load_run(folder, 200)).dense())
    assert abs(rows[3]["lambda_max"] - float(dense[-1])) <= rows[3]["lambda_max_stderr"] + 1e-4 * float(dense[-1])


def test_renyi_uses_the_density_that_is_kept(study: StudyConfig) -> None:
    folder = Path(study.members["sgd-seed0"].folder)
    assert load_density(folder).nodes.shape == (2, 8)
    found = json.loads((folder / "metrics.json").read_text())["estimates"]
    assert found["renyi"]["matvecs"] == 16


def test_the_centre_of_a_slice_is_the_networks_loss(study: StudyConfig) -> None:
    folder = Path(study.members["sgd-seed0"].folder)
    plane = Slice2D.load(folder / "slice_2d.npz")
    assert float(plane.loss["train"][2, 2]) == pytest.approx(float(load_run(folder).loss()), rel=1e-6)
    assert set(plane.loss) == {"train", "test"}


def test_what_is_finished_is_not_done_again(study: StudyConfig) -> None:
    folder = Path(study.members["sgd-seed0"].folder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    measure(study.members["sgd-seed0"], ANALYSIS)
    cut(study.members["sgd-seed0"], ANALYSIS)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_slice_of_other_settings_is_cut_anew(study: StudyConfig, tmp_path: Path) -> None:
    folder = shutil.copytree(study.members["sgd-seed0"].folder, tmp_path / "copy")
    before = Slice2D.load(folder / "slice_2d.npz")
    network = study.members["sgd-seed0"]
    cut(replace(network, run=replace(network.run, folder=folder)), replace(ANALYSIS, reach=0.5, seed=1))
    after = Slice2D.load(folder / "slice_2d.npz")
    assert after.x[-1] == 0.5
    assert after.loss["train"][2, 2] == before.loss["train"][2, 2]
    assert not torch.equal(after.norms, before.norms)


@pytest.mark.usefixtures("png_only")
def test_the_page_stands_alone_and_says_what_the_table_says(study: StudyConfig, tmp_path: Path) -> None:
    page = report_study(study, tmp_path, "A small study").read_text()
    assert page.count("data:image/png;base64,") == page.count("<img ") == 10
    links = set(re.findall(r'(?:src|href)="([^"]{5})', page))
    assert links == {"data:", "#foun", "#limi", "#figu", "#netw", "#meth", "#fact"}
    assert 'href="#tau"' in page
    assert f'<p class="answer" id="answer">{escape(answer(gather(study)))}</p>'.replace("&#x27;", "&#39;") in page
    rows = table(study)
    lower = sum(rows[2 + seed]["lambda_max"] < rows[seed]["lambda_max"] for seed in (0, 1))
    assert f"(lower in {lower} of 2 pairs)" in page
    for row in rows:
        for key in OUTCOMES:
            assert f'data-value="{row[key]}"' in page
    assert "What this cannot answer" in page
    assert "{" not in re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)  # all that is to be filled in is
    assert "m = 100" in page
    assert "pairs weighted by what the test set resolves" in page
    assert (
        "(probes = 2, steps = 8, leading = False)" in page
    )  # of the density that is kept, from which Rényi sharpness comes
    files = [json.loads((Path(own.folder) / "metrics.json").read_text()) for own in study.members.values()]
    whole = [sum(e["gradient_times"] for e in f["estimates"].values()) + sum(f["shared"].values()) for f in files]
    assert min(f["shared"]["leading eigenpairs"] for f in files) > 0
    assert {f["shared"]["spectral density that is kept"] for f in files} == {1 + 2 * 2 * 8}  # a graph, two probes
    assert f"{sum(whole) / 4:.0f} gradients of the loss a network" in page
    alone, shared = costs_alone(study), [sum(f["shared"][key] for f in files) / 4 for key in files[0]["shared"]]
    pairs = dict(zip(files[0]["shared"], shared, strict=True))["leading eigenpairs"]
    assert costs(study)["lambda_max"] == 0
    assert alone["lambda_max"] == pairs > 0
    assert alone["renyi"] == 1 + 2 * 2 * 8
    assert f'<td data-value="{alone["lambda_max"]}">' in page
    written = (tmp_path / "metrics.csv").read_text().splitlines()
    assert written[0].split(",") == list(rows[0])
    assert len(written) == 5
    kept = json.loads((tmp_path / "study.json").read_text())
    assert kept["members"]["sam-seed0"]["rule_settings"] == {"rho": 0.1}
    assert kept["common"]["epochs"] == 2
    with (tmp_path / "correlations.csv").open() as file:
        lines = {(line["metric"], line["target"]): line for line in csv.DictReader(file)}
    found = correlate(rows, ["trace"], axes=["rule", "seed"], cluster=["rule"], given="train_loss")["trace"]
    assert float(lines["trace", "generalization_gap"]["tau"]) == pytest.approx(found.tau)
    assert float(lines["trace", "generalization_gap"]["psi_rule"]) == pytest.approx(found.psi["rule"])
    assert ("trace", "accuracy_gap") in lines


def test_a_folder_that_cannot_be_written_is_said_first(study: StudyConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"the output folder must be writable, got .*file"):
        report_study(study, tmp_path / "file", "A study")


def test_an_axis_may_be_a_setting_of_the_model_or_of_the_rule(tmp_path: Path) -> None:
    axes = {"model_settings.hidden": [[8], [4, 4]], "optimizer": ["sam"], "rule_settings.rho": [0.1, 0.2]}
    networks = grid(tmp_path, BASE, axes, {"sam": {"rule_settings": {"p": 1.0}}})
    assert list(networks) == [
        "hidden8-sam-rho0.1",
        "hidden8-sam-rho0.2",
        "hidden4_4-sam-rho0.1",
        "hidden4_4-sam-rho0.2",
    ]
    last = networks["hidden4_4-sam-rho0.2"]
    assert last.run.model_settings == {"hidden": [4, 4]}
    assert last.run.rule_settings == {"p": 1.0, "rho": 0.2}
    assert last.chosen == {"hidden": "[4, 4]", "rule": "sam", "rho": 0.2}
    config = StudyConfig(networks, ANALYSIS)
    assert (config.axes, config.cluster) == (["hidden", "rho"], ["hidden", "rho"])
    assert StudyConfig(grid(tmp_path, BASE, {"lr": [0.1, 0.2], "seed": [0, 1]}), ANALYSIS).cluster == ["lr"]


def test_a_member_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    networks = grid(tmp_path / "runs", {**BASE, "epochs": 1}, {"lr": [0.05, 0.1, 0.2, 1e30], "seed": [0]})
    small = Analysis(["gradient_norm"], samples=50, probes=0, line_points=0, plane_points=0)
    config = StudyConfig(networks, small, workers=1)
    rows = run_study(config, progress=False)
    assert [row["lr"] for row in rows] == [0.05, 0.1, 0.2]
    assert list(broken(config)) == ["lr1e+30-seed0"]
    files = [json.loads((own.folder / "metrics.json").read_text()) for own in list(networks.values())[:3]]
    assert costs(config)["shared"] == sum(sum(f["shared"].values()) for f in files) / 3  # of those that came through
    reason = broken(config)["lr1e+30-seed0"]
    assert reason.startswith("train: ")
    assert "loss" in reason
    page = report_study(config, tmp_path / "out", "A study").read_text()
    assert f"Network lr1e+30-seed0 failed and is in no number here: {reason}" in page
    assert page.count("<img ") == 5  # no slices, no density: tau, scatter, psi, ranks, training
    written = networks["lr1e+30-seed0"].folder / "broken.json"
    before = written.stat().st_mtime_ns
    assert run_study(config, progress=False) == rows  # it is not tried again
    assert written.stat().st_mtime_ns == before
    other = replace(config, analysis=replace(config.analysis, seed=1))
    assert broken(other) == {}  # at other settings it is


def test_a_metric_that_few_networks_have_is_named_and_a_study_of_few_is_told(
    study: StudyConfig, tmp_path: Path
) -> None:
    copies = {}
    for index, (name, network) in enumerate(study.members.items()):
        folder = shutil.copytree(network.folder, tmp_path / name)
        kept = json.loads((folder / "metrics.json").read_text())
        if index < 2:
            kept["estimates"]["trace"]["value"] = float("nan")
        del kept["sha256"]
        (folder / "metrics.json").write_text(json.dumps(kept))
        copies[name] = replace(network, run=replace(network.run, folder=folder))
    found = gather(replace(study, members=copies))
    assert list(found.correlations) == ["lambda_max", "renyi", "m_sharpness", "train_loss"]
    alone = correlate(found.rows, ["train_loss"], axes=["rule", "seed"], cluster=["rule"])["train_loss"]
    assert found.correlations["train_loss"].tau == alone.tau  # what any metric may tell, among them
    assert list(found.noisy) == ["noisy_generalization_gap", "noisy_accuracy_gap"]
    assert found.held == 0.0
    assert "Finite on too few networks to say anything: trace." in limits(found)
    two = dict(list(copies.items())[:2])
    with pytest.raises(ValueError, match="finite on at least 3 networks, got 2 networks and at most 2; see why"):
        gather(replace(study, members=two))


class Slow(OwnCheckpoint):
    """A network that takes its time and leaves a mark."""

    def prepare(self) -> None:
        sleep(0.2)
        self.folder.mkdir(exist_ok=True)


def test_an_interrupt_does_not_wait_for_all_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupts(tqdm):
        def update(self, n: float | None = 1) -> None:
            raise KeyboardInterrupt

    losses = {"train_loss": 0.0, "test_loss": 0.0}
    config = StudyConfig({f"{i}": Slow(tmp_path / f"{i}", "", "", {}, losses) for i in range(20)}, ANALYSIS)
    monkeypatch.setattr(study_runner, "progress_bar", lambda total, **_: Interrupts(total=total, disable=True))
    with pytest.raises(KeyboardInterrupt):
        run_study(config, progress=False)
    assert 1 <= len(list(tmp_path.iterdir())) < 10  # those in the workers' hands, and in the pipe to them
    assert not active_children()


def test_an_executor_of_the_users_own_gives_the_same_rows(tmp_path: Path) -> None:
    small = Analysis(["weight_norm"], samples=50, probes=0, line_points=0, plane_points=0)
    own, theirs = (
        StudyConfig(grid(tmp_path / name, {**BASE, "epochs": 1}, {"seed": [0, 1]}), small, workers=1)
        for name in ("own", "theirs")
    )
    with ThreadPoolExecutor(1) as executor:
        assert run_study(theirs, executor, progress=False) == run_study(own, progress=False)


def test_a_study_of_which_nothing_came_through(tmp_path: Path) -> None:
    config = StudyConfig(grid(tmp_path, {**BASE, "epochs": 1}, {"lr": [1e30]}), ANALYSIS, workers=1)
    with pytest.raises(ValueError, match="no network of the study came through; the first: train: "):
        run_study(config, progress=False)


def test_bad_studies() -> None:
    with pytest.raises(ValueError, match="members must hold at least one network"):
        StudyConfig({}, ANALYSIS)
    with pytest.raises(ValueError, match=r"axes must hold at least one value each, got none of lr$"):
        grid(Path("x"), BASE, {"seed": [0], "lr": []})
    with pytest.raises(
        ValueError,
        match=r"^families must be .* of which each is text, at least one, got {'a': \(\)}$",
    ):
        StudyConfig(grid(Path("x"), BASE, {"seed": [0]}), ANALYSIS, families={"a": ()})
    for wrong, said in {
        "metrics": ([], "metrics must be a list of which each is text, at least one or null, got"),
        "samples": (-1, "samples must be an integer at least 1 or null, got -1"),
        "line_points": (-1, "line_points must be an integer at least 0, got -1"),
        "reach": (-1.0, "reach must be positive and finite, got -1.0"),
    }.items():
        with pytest.raises(ValueError, match=said[1]):
            Analysis(**{wrong: said[0]})
    with pytest.raises(ValueError, match=r"families must be of .*; got sharpness"):
        StudyConfig(grid(Path("x"), BASE, {"seed": [0]}), ANALYSIS, families={"a": ("sharpness", "trace")})
