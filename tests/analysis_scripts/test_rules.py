"""The scripts that train many small networks: tiny runs with known properties, pure functions with closed forms."""

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp
from torch import nn

import landscape as ls
from analysis_scripts._shared.random_search import Search
from landscape.curvature import hessian
from landscape.data import digits
from landscape.storage.results import SliceBand
from landscape.vectors import unit

TINY = {
    "model": "mlp",
    "model_settings": {"hidden": [6], "norm": "batch"},
    "epochs": 2,
    "batch_size": 400,
    "label_noise": 0.4,
}


SEARCH = Search(points=3, rounds=2, most_rounds=2, finalists=2, seeds=(9, 8))


def tiny(config, tmp_path, **changes):
    """The script's config in small."""
    places = {"folder": str(tmp_path / "figures"), "runs": str(tmp_path), "tuning": str(tmp_path / "tuning")}
    return replace(config(), **{"setting": TINY, "search": SEARCH, "seeds": (0, 1), "workers": 1} | places | changes)


def test_an_interval_is_that_of_the_t_test_and_differences_are_paired():
    from analysis_scripts._shared.over_seeds import difference, interval

    values = [0.3, 0.5, 0.35, 0.42]
    low, high = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((np.mean(values), low, high))
    assert difference([v + 1 for v in values], values) == pytest.approx((1, 1, 1))
    assert np.isnan(interval([1.0])[1])


def lr_of(folder):
    return {"lr": json.loads((folder / "config.json").read_text())["lr"]}


def test_a_network_that_diverged_is_kept_as_such_and_a_finished_one_is_not_measured_again(tmp_path):
    from analysis_scripts._shared.many_networks import measured, slug

    networks = {lr: ls.TrainConfig(tmp_path / str(lr), **TINY, lr=lr, momentum=0.0) for lr in (0.1, 1e30)}
    first = measured(networks, lambda folder: {"folder": folder.name}, 1, progress=False)
    assert first[0.1] == {"folder": "0.1"}
    assert "the loss is" in first[1e30]["failed"]
    assert measured(networks, lambda folder: {}, 1, progress=False) == first
    assert measured(networks, partial(lambda folder, n: {"n": n}, n=3), 1, progress=False)[0.1] == {"n": 3}
    with ThreadPoolExecutor(1) as executor:
        assert measured(networks, partial(lambda folder, n: {"n": n}, n=4), executor, progress=False)[0.1] == {"n": 4}
    assert measured(networks, lr_of, 1, progress=False)[0.1] == {"lr": 0.1}  # another function, with no other keyword
    with pytest.raises(ValueError, match="measure must have its settings as keywords"):
        measured(networks, partial(lr_of, 3), 1)
    networks[0.1] = ls.TrainConfig(tmp_path / "0.1", **TINY, lr=0.2, momentum=0.0)
    with pytest.raises(ValueError, match="holds a run with other lr"):  # its number is not that of this network
        measured(networks, lambda folder: {}, 1, progress=False)
    assert len({slug(name) for name in ("SAM, p = 1", "SAM, p = ∞", "SAM", "GSAM, ρ follows lr")}) == 4


def test_every_variant_takes_the_passes_that_its_budget_counts(tmp_path):
    from analysis_scripts._shared.variants import VARIANTS

    less = {"ESAM": 20, "RSAM": 10}  # half of ESAM's backward pass is spared; RSAM's first epochs are plain
    aside = {"MESA": 10, "AdaHessian": 10, "Eigen-SAM": 20, "SSAM-F": 20, "Fisher SAM, exact": 20}  # other passes
    calls = []
    hook = nn.modules.module.register_module_forward_pre_hook(
        lambda module, _: calls.append(1) if isinstance(module, nn.Sequential) and module.training else None
    )
    try:
        for name, variant in VARIANTS.items():
            calls.clear()
            middle = {key: (low * high) ** 0.5 for key, (low, high) in variant.box.items()}
            small = {"batch_size": 120, "epochs": 1, "eigen_samples": 8, "progress": False}
            settings = {**TINY, **variant.training(middle, 10), **small}
            ls.train(ls.TrainConfig(tmp_path / str(len(list(tmp_path.iterdir()))), **settings))
            expected = {**less, **aside}.get(name, round(10 * variant.passes))
            assert len(calls) == expected, name
            assert variant.epochs(60) == round(60 / variant.passes)
    finally:
        hook.remove()


def test_the_table_compares_rules_at_both_budgets_and_reuses_what_is_there(tmp_path):
    from analysis_scripts.training.rule_table import Config, main

    config = tiny(Config, tmp_path, variants=("SGD", "SAM"), timed_epochs=2)
    rows = {own["name"]: own for own in main(config)}
    sgd, sam = rows["SGD"], rows["SAM"]
    assert (sgd["gradients"]["epochs"], sgd["epochs"]["epochs"], sam["gradients"]["epochs"]) == (4, 2, 2)
    assert sam["gradients"]["errors"] == sam["epochs"]["errors"]
    assert sgd["epochs"]["minus_first"] == (0, 0, 0)
    model, metadata = ls.load_checkpoint(tmp_path / "sam-2-1")
    assert metadata["config"]["rule_settings"]["rho"] == sam["epochs"]["tuned"]["radius"]
    assert sam["epochs"]["errors"][1] == 1 - metadata["test_accuracy"]
    data = digits(0.4, seed=1)
    first = ls.Problem(model, nn.functional.cross_entropy, (data.train_inputs[:300], data.train_targets[:300]))
    kept = json.loads((tmp_path / "sam-2-1" / "measured.json").read_text())["found"]
    assert abs(kept["lambda_max"] - float(torch.linalg.eigvalsh(hessian(first).dense())[-1])) <= kept["residual"] + 1e-5
    with (tmp_path / "figures" / "rule_table.csv").open() as file:
        lines = {(line["name"], line["budget"]): line for line in csv.DictReader(file)}
    assert set(lines) == {(name, budget) for name in rows for budget in ("gradients", "epochs")}
    assert lines["SAM", "epochs"]["at_edge"] == " ".join(sam["epochs"]["edges"])
    text = (tmp_path / "figures" / "rule_table.md").read_text()
    marked = any(sam[budget]["edges"] for budget in ("gradients", "epochs"))
    assert f"| SAM{'*' if marked else ''} |" in text
    (claim,) = json.loads((tmp_path / "figures" / "rule_table.json").read_text())["claims"]
    less = 100 * np.mean(np.subtract(sam["gradients"]["errors"], sgd["gradients"]["errors"]))
    assert claim["claim"] == "SAM errs less than SGD"
    assert claim["found"].startswith(f"{less:+.1f} [")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    main(config)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == times


def test_label_noise_compares_rules_at_each_share_of_flips(tmp_path):
    from analysis_scripts.training.label_noise import Config, claims, main, sentence

    setting = {key: value for key, value in TINY.items() if key != "label_noise"}
    config = replace(tiny(Config, tmp_path, rules=("SGD", "SAM", "Mixup"), flips=(0.2, 0.8)), setting=setting)
    table = main(config)["intervals"]
    assert list(table) == ["SGD", "SAM", "Mixup"]
    assert list(table["SGD"]) == [0.2, 0.8]
    for own in table["SGD"].values():
        assert own["best"][0] >= own["last"][0]
        assert 0 <= own["fitted"][0] <= 1
    runs = {rule: {0.2: [{"last": y, "best": 0.7} for y in (x, x + 0.1)]} for rule, x in (("SGD", 0.5), ("SAM", 0.75))}
    (own,) = claims(runs)
    assert (own.claim, own.found, own.verdict) == (
        "SAM above SGD",
        "+25.0 [+25.0, +25.0] points",
        "agrees",
    )
    assert "20 %: SAM +10.0 [-53.5, +73.5] points" in sentence(runs)


def test_without_its_second_setting_either_rule_of_the_maps_is_sam(tmp_path):
    from analysis_scripts.training.sensitivity import MAPS, Config, main

    small = {rule: replace(own, rows=(*own.rows[:2], (0,)), factors=(0.5, 2.0)) for rule, own in MAPS.items()}
    maps = main(tiny(Config, tmp_path, maps=small))
    assert maps["Fisher SAM"].shape == (2, 1, 2)
    points = json.loads((tmp_path / "figures" / "sensitivity.json").read_text())["tuned"]
    same = {**TINY, "optimizer": "sam", "rule_settings": {"rho": 2 * points["Eigen-SAM"]["radius"]}, "progress": False}
    same |= {key: points["Eigen-SAM"][key] for key in ("lr", "weight_decay")}
    run = ls.train(ls.TrainConfig(tmp_path / "sam", seed=1, **same))
    assert maps["Eigen-SAM"][1, 0, 1] == ls.load_checkpoint(run)[1]["test_accuracy"]


def test_noise_and_flat_share_of_a_map_in_closed_form():
    from analysis_scripts.training.sensitivity import flat_share, noise

    values = np.array([[[0.9, 0.5]], [[0.8, 0.6]]])  # a cell's mean of two: standard deviation 0.1/2
    assert noise(values) == pytest.approx(0.05)
    assert flat_share(values) == 0.5  # 0.55 is further than 2 √2 0.05 below 0.85
    assert flat_share(values, within=10) == 1.0


def test_the_loss_that_ascent_finds_is_that_of_projected_ascent(tmp_path):
    from analysis_scripts.training.ascent_steps import found_loss

    torch.manual_seed(0)
    data = digits()
    batch = data.train_inputs[:50].double(), data.train_targets[:50]
    problem = ls.Problem(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double(), nn.functional.cross_entropy, batch)
    w, rho = problem.vector(), 0.3
    e = rho * unit(problem.gradient())
    assert torch.allclose(found_loss(problem, rho, 1), problem.loss(w + e), rtol=1e-12)
    e = rho * unit(e + rho * unit(problem.gradient(w + e)))
    assert torch.allclose(found_loss(problem, rho, 2), problem.loss(w + e), rtol=1e-12)


def test_one_step_of_ascent_exceeds_itself_by_nothing(tmp_path):
    from analysis_scripts.training.ascent_steps import Config, main

    found = main(tiny(Config, tmp_path, steps=(1, 2), early=(1,), batches=1))
    assert list(found["errors"]) == [1, 2]
    assert set(found["excess"]) == {1, 2}
    assert all(own[0] == 0 and own[1] > -0.1 for seeds in found["excess"].values() for own in seeds)


def test_corruption_starts_at_the_networks_own_loss_and_rises_along_the_gradient(tmp_path):
    from analysis_scripts.sharpness.corruption import Config, main

    config = tiny(Config, tmp_path, rules=("SGD",), draws=2, points=3, adversarial=1e-3, random=1.0)
    bands = main(config)["SGD"]
    losses = [ls.load_checkpoint(tmp_path / f"sgd-{seed}")[1]["train_loss"] for seed in config.seeds]
    assert bands["adversarial"].loss["train"].shape == (2, 3)
    assert bands["random"].loss["test"].shape == (4, 3)
    assert bands["random"].loss["train"][:, 0].tolist() == pytest.approx([losses[0]] * 2 + [losses[1]] * 2, rel=1e-5)
    rise = (bands["adversarial"].loss["train"][:, -1] - bands["adversarial"].loss["train"][:, 0]).double() / 1e-3
    slopes = [
        json.loads((tmp_path / f"sgd-{seed}" / "measured.json").read_text())["found"]["gradient"]
        for seed in config.seeds
    ]
    assert rise.tolist() == pytest.approx(slopes, rel=0.1)


def test_what_a_network_endures_is_read_between_the_points():
    from analysis_scripts.sharpness.corruption import endured

    x = torch.linspace(0, 4, 5)
    falling = {"test": torch.stack([1 - 0.04 * x, 1 - 0.08 * x])}  # on average 0.06 a unit
    assert endured(SliceBand(x, falling, falling)) == pytest.approx(0.1 / 0.06)
    level = {"test": torch.ones(1, 5)}
    assert endured(SliceBand(x, level, level)) == 4


def test_the_verdict_on_a_claim_is_open_where_the_interval_holds_zero():
    from analysis_scripts._shared.over_seeds import verdict

    assert [verdict(own) for own in ((1, 0.5, 1.5), (-1, -1.5, -0.5), (1, -0.1, 2.1))] == [
        "agrees",
        "differs",
        "cannot say",
    ]
    assert verdict((-1, -1.5, -0.5), claimed=-1) == "agrees"


def test_the_reproductions_page_is_what_the_files_beside_the_figures_say():
    from analysis_scripts.reproductions import PAGE, page

    assert PAGE.read_text() == page()


def test_the_gallery_says_of_the_rules_what_the_table_holds():
    root = Path(__file__).parents[2]
    table = json.loads((root / "figures" / "rule_table" / "rule_table.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    others = [row for row in table["rows"] if row["name"] != "SGD"]
    said = " ".join((root / "docs" / "gallery.md").read_text().split())

    def count(budget, worse=False):
        ends = [row[budget]["minus_first_for_all"] for row in others]
        return sum(low > 0 if worse else high < 0 for _, low, high in ends)

    error = {name: f"{100 * row['gradients']['error'][0]:.1f} %" for name, row in rows.items()}
    assert f"SGD errs on {error['SGD']}, SAM on {error['SAM']}, training on adversarial inputs, without SAM, on" in said
    assert f"on {error['Adversarial inputs']}; {count('gradients')} of {len(others)} rows are better" in said
    assert f"at equal epochs {count('epochs')} are and {count('epochs', worse=True)} are worse" in said
    assert table["rows"][0]["name"] == "Adversarial inputs"  # the smallest error is the one that is named
    differs = {own["claim"] for own in table["claims"] if own["verdict"] == "differs"}
    assert {f"{name} errs less than SAM" for name in ("ASAM", "GSAM", "Eigen-SAM")} <= differs
    assert not any(row[budget]["edges"] for row in table["rows"] for budget in ("gradients", "epochs"))
