"""Diagonal networks and transformers: their sharpnesses against symmetries and closed forms, verdicts, small runs."""

import json

import numpy as np
import pytest
import torch

from analysis_scripts.sharpness import diagonal_networks, geodesic_transformers, geodesic_vs_adaptive
from analysis_scripts.sharpness.diagonal_networks import Piece, Setting, regression, sharpness, train
from analysis_scripts.sharpness.geodesic_vs_adaptive import near

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def values(setting, seed, u, v, rho):
    found = sharpness(setting, regression(setting, seed)[:2], u, v, rho)
    assert all(own.details["converged"] for own in found.values())
    return {name: float(own.value) for name, own in found.items()}


def test_all_three_sharpnesses_are_blind_to_the_symmetry_of_diagonal_networks():
    setting = Setting(inputs=5, samples=3, nonzero=2)
    u, v, c = tensor(1.0, -0.8, 0.3, 0.5, 0.9), tensor(0.7, 0.6, -0.5, 0.4, 1.1), tensor(3.0, 0.5, -2.0, 1.5, 0.7)
    before, after = values(setting, 0, u, v, 0.01), values(setting, 0, c * u, v / c, 0.01)
    assert before == pytest.approx(after, rel=1e-9)
    assert min(before.values()) > 0


def test_mix_is_the_same_for_all_networks_where_no_geodesic_ends():
    setting, rho = Setting(inputs=4, samples=6, nonzero=4), 0.01
    x, _, truth = regression(setting, 3)
    top = float(torch.linalg.eigvalsh(x.T @ x / len(x))[-1])
    for c in (1.0, 3.0):  # at β*, whose entries are all larger than the ball
        u = c * truth.abs().sqrt()
        assert values(setting, 3, u, truth / u, rho)["mix"] == pytest.approx(2 * rho**2 * top, rel=2e-3)
    assert truth.abs().min() > 2**0.5 * rho


def test_adaptive_and_inv_are_the_largest_eigenvalue_of_the_scaled_data_for_small_radii():
    setting, rho = Setting(inputs=4, samples=6, nonzero=4), 1e-4
    x, _, truth = regression(setting, 3)
    scaled = truth[:, None] * (x.T @ x / len(x)) * truth
    right = 2 * rho**2 * float(torch.linalg.eigvalsh(scaled)[-1])
    found = values(setting, 3, truth.abs().sqrt(), truth / truth.abs().sqrt(), rho)
    assert found["adaptive"] == pytest.approx(right, rel=3e-3)
    assert found["inv"] == pytest.approx(right, rel=3e-3)


def test_diagonal_networks_train_to_the_loss_and_no_further():
    piece = Piece(Setting(networks=5, inputs=12, samples=7, nonzero=2, loss=1e-4), (0.05, 0.5), 2)
    x, y, truth = regression(piece.setting, 2)
    assert (truth != 0).sum() == 2
    torch.testing.assert_close(x @ truth, y, **EXACT)
    found = train(piece)
    loss = ((found["u"] * found["v"]) @ x.T - y).square().mean(1)
    assert 0.3e-4 < float(loss.min()) <= float(loss.max()) <= 1e-4  # it is looked at every 100 steps
    torch.testing.assert_close(found["init"][[0, -1]], tensor(0.05, 0.5), **EXACT)


@pytest.mark.parametrize(
    ("taus", "published", "verdict"),
    [
        ((-0.7, -0.6, -0.65, -0.7, -0.6), -0.68, "agrees"),
        ((-0.7, -0.6, -0.65, -0.7, -0.6), -0.95, "differs"),  # too far
        ((0.7, 0.6, 0.65, 0.7, 0.6), -0.68, "differs"),  # the other sign
        ((-0.8, 0.6, -0.65, 0.5, -0.6), -0.68, "cannot say"),
    ],
)
def test_a_published_tau_agrees_by_sign_and_range(taus, published, verdict):
    assert near(taus, published) == verdict


def test_geodesic_vs_adaptive(tmp_path, monkeypatch):
    script = geodesic_vs_adaptive
    setting = Setting(networks=6, inputs=6, samples=4, nonzero=1, loss=1e-3, radii=(0.1,), ascent=5)
    config = script.Config(
        setting, {"few": (0.1, 0.5)}, datasets=(0, 1), workers=1, runs=str(tmp_path / "runs"), folder=str(tmp_path)
    )
    found = script.main(config)
    assert found["not_fitted"] == 0
    with np.load(tmp_path / "geodesic.npz") as kept:
        ended = {seed: kept[f"few, data set {seed}, converged"] for seed in (0, 1)}
        assert kept["few, data set 0, sharpness"].shape == (1, 3, 6)
    assert found["not_converged"] == {f"few, data set {seed}": int((own == 0).sum()) for seed, own in ended.items()}
    assert set(found["tau_low_high"]["few, data set 1"]) == {"start", *(f"{n}, ρ = 0.1" for n in script.PUBLISHED)}
    assert len(found["claims"]) == 4
    monkeypatch.setattr(diagonal_networks, "train", lambda *_: pytest.fail("finished networks are trained again"))
    assert script.main(config)["sentence"] == found["sentence"]


def test_geodesic_transformers(tmp_path):
    script = geodesic_transformers
    config = script.Config(
        networks=4, model_settings={"dim": 4, "depth": 1, "heads": 2}, epochs=1, loss=3.0, radii=(0.03,), ascent=2,
        samples=20, workers=1, runs=str(tmp_path / "runs"), folder=str(tmp_path),
    )  # fmt: skip
    found = script.main(config)
    assert [row["rule"] for row in found["rows"]] == ["plain", "sam", "plain", "sam"]
    assert "4 of 4 (a seed each) reached" in found["sentence"]
    beyond = script.sharpness(tmp_path / "runs" / "0", radii=(50.0,), ascent=2, samples=20)
    assert np.isnan(beyond["inv, ρ = 50"])  # refused by the series of the geodesic
    assert beyond["adaptive, ρ = 50"] > 0
    assert len(json.loads((tmp_path / "geodesic.json").read_text())["claims"]) == 5
