import json
from dataclasses import replace
from math import asin, pi
from pathlib import Path

import numpy as np
import pytest

from analysis_scripts.sharpness.interval_candidates import BEFORE, OURS, candidates
from analysis_scripts.sharpness.interval_coverage import Config, judged, main, normal_r, tables
from landscape.study.statistics.kendall import signs, tau_b, weighted_taus

FIGURE = Path(__file__).parents[2] / "figures/interval_coverage/interval_coverage.json"


def test_networks_of_different_settings_have_the_tau_that_is_called_the_truth():
    columns, clusters = tables((600, 2), [[1, normal_r(0.5)], [normal_r(0.5), 1]], Config(), 3, seed=0)
    found = [tau_b(*own, clusters) for own in columns]
    error = np.mean([tau.variance for tau in found]) ** 0.5
    assert np.mean([tau.value for tau in found]) == pytest.approx(0.5, abs=4 * error / 3**0.5)
    assert 2 / pi * asin(normal_r(0.73)) == pytest.approx(0.73)


def test_the_interval_of_before_counts_pairs_of_one_setting():
    columns, clusters = tables((6, 3), np.eye(2), Config(), 1, seed=0)
    drawn = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=300)
    found = candidates(*columns[0], clusters, drawn.astype(float))
    taus = weighted_taus(signs(columns[0][0]), signs(columns[0][1]), drawn[:, clusters])
    assert found[BEFORE] == pytest.approx(np.nanpercentile(taus, [2.5, 97.5]))
    assert all(-1 <= low < high <= 1 for low, high in found.values())


def test_judged_by_hand():
    ends = np.array([[0, 1], [0.6, 1], [-1, 0.4], [0.4, 0.6], [np.nan, np.nan]])
    found = judged(ends, 0.5)
    assert (found["holds"], found["below"], found["above"], found["without"]) == pytest.approx((0.5, 0.25, 0.25, 0.2))
    assert found["length"] == pytest.approx((1 + 0.4 + 1.4 + 0.2) / 4)


def test_a_small_run_is_kept_and_published(tmp_path):
    config = replace(
        Config(), designs=((5, 2), (8, 2)), taus=(0.5,), tables=6, resamples=40, p_tables=6, metrics=2, permutations=9,
        runs=str(tmp_path / "runs"), folder=str(tmp_path / "out"),
    )  # fmt: skip
    said = main(config)["sentence"]
    assert "at 8 settings and more" in said
    kept = json.loads((tmp_path / "out" / "interval_coverage.json").read_text())
    assert set(kept["intervals"]["τ = 0.5"]["8 × 2"]) >= {OURS, BEFORE}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert main(config)["sentence"] == said
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()} == before


def test_the_published_intervals_hold_what_they_promise():
    published = json.loads(FIGURE.read_text())
    shares = {
        (row, int(label.split()[0])): own[OURS]["holds"]
        for row, designs in published["intervals"].items()
        for label, own in designs.items()
    }
    taus = {where: share for where, share in shares.items() if where[0].startswith("τ")}
    assert len(taus) == 12
    assert all(0.93 <= share <= 0.97 for (_, settings), share in taus.items() if settings >= 8)
    assert all(share >= 0.88 for share in shares.values())
    assert max(published["size of the corrected p"].values()) < 0.05 + 3 * (0.05 * 0.95 / 10_000) ** 0.5
