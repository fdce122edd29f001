"""The scripts edge_of_stability, spectrum_along_training and gsam_map at their smallest, and what they conclude."""

import json

import numpy as np
import pytest
import torch
from cases import symmetric
from quadratics import quadratic


def test_the_edge_is_reached_where_the_ratio_is_one():
    """By hand: at step 2 of 3 the ratio is .95; losses after it 2, 1, 2, .5, of two seeds alike."""
    from analysis_scripts.training.edge_of_stability import claims, of_runs

    own = {
        "sharpness": np.array([[5.0, 9.5, 10.0]] * 2),
        "threshold": np.full((2, 3), 10.0),
        "step": np.array([[1, 2, 5]] * 2),
        "lambda_max": np.array([[1.0, 2.0, 4.0]] * 2),
        "loss": np.array([[4.0, 2.0, 1.0, 2.0, 0.5]] * 2),
    }
    found = of_runs(own)
    assert found["ratio"] == [1.0, 1.0]
    assert found["start"] == [0.5, 0.5]
    assert found["rises"] == pytest.approx([100 / 3] * 2)
    assert found["halvings"] == [2.0, 2.0]
    assert found["doublings"] == [1.0, 1.0]
    told = claims("adam", {0.1: found, 0.2: found})
    assert [own.verdict for own in told] == ["agrees"] * 3
    assert told[0].claim == "λmax(P⁻¹H) hovers at 38/η"
    assert [own.verdict for own in claims("gd", {0.1: found})] == ["agrees"] * 3


def test_a_ratio_is_at_the_threshold_by_its_interval():
    from analysis_scripts.training.edge_of_stability import at_threshold

    assert at_threshold((1.0, 0.95, 1.05)) == "agrees"
    assert at_threshold((0.5, 0.4, 0.6)) == "differs"
    assert at_threshold((1.0, 0.8, 1.2)) == "cannot say"


def test_a_run_at_the_edge_measures_the_two_thresholds(tmp_path):
    from analysis_scripts.training import edge_of_stability

    config = edge_of_stability.Config(
        images=20,
        hidden=(3,),
        rates={"gd": (0.1,), "adam": (0.01,)},
        steps=6,
        every=2,
        seeds=2,
        folder=str(tmp_path),
        runs=str(tmp_path / "runs"),
    )
    found = edge_of_stability.main(config)
    with np.load(tmp_path / "edge_of_stability.npz") as stored:
        curves = dict(stored)
    assert curves["gd/0.1/threshold"] == pytest.approx(20)
    assert curves["adam/0.01/threshold"] == pytest.approx(3800)
    assert np.array_equal(curves["gd/0.1/sharpness"], curves["gd/0.1/lambda_max"])
    assert curves["adam/0.01/loss"].shape == (2, 6)
    assert len(found["claims"]) == 6
    assert (tmp_path / "edge_of_stability.png").exists()


def test_the_critical_sharpness_is_compared_with_the_largest_eigenvalue():
    """By hand, in thresholds of 10: λmax comes to .9 at the fourth of six; before that both rise, late they agree."""
    from analysis_scripts.training.critical_sharpness import claims, of_runs

    top = np.array([[2.0, 4.0, 6.0, 9.0, 10.0, 10.0]] * 2)
    critical = np.array([[1.0, 2.0, 4.0, 9.5, 11.0, 9.0]] * 2)
    found = of_runs(critical, top, 10.0)
    assert found["rank"] == pytest.approx([1.0, 1.0])
    assert found["rise"] == pytest.approx([0.3, 0.3])
    assert (found["late"], found["late_top"]) == (pytest.approx([1.0, 1.0]), pytest.approx([1.0, 1.0]))
    assert found["above"] == pytest.approx([100 / 3] * 2)
    assert [own.verdict for own in claims({0.2: found})] == ["agrees"] * 3


def test_a_run_measures_the_critical_sharpness(tmp_path):
    from analysis_scripts.training import critical_sharpness

    config = critical_sharpness.Config(
        images=20, hidden=(3,), rates=(0.1,), steps=8, every=2, seeds=2, folder=str(tmp_path), runs=str(tmp_path / "r")
    )
    found = critical_sharpness.main(config)
    with np.load(tmp_path / "critical_sharpness.npz") as stored:
        assert (stored["0.1/critical_sharpness"] > 0).all()
        assert stored["0.1/lambda_max"].shape == (2, 4)
    assert len(found["claims"]) == 3
    assert (tmp_path / "critical_sharpness.png").exists()


def test_the_spectrum_is_the_dense_one_where_the_network_is_small():
    from analysis_scripts.training.spectrum_along_training import Config, measured

    values = torch.linspace(-1, 3, 12).double()
    found = measured(quadratic(symmetric(values)), Config(lanczos_steps=12, probes=200), 0)
    assert found["top"] == pytest.approx(values.flip(0)[:5].tolist(), rel=1e-6)
    assert found["spread"] == pytest.approx(float(values.square().mean().sqrt()), rel=0.02)


def test_a_run_along_the_training_compares_its_last_epochs(tmp_path):
    from analysis_scripts.training import spectrum_along_training

    config = spectrum_along_training.Config(
        width=2,
        at=(1, 2),
        images=20,
        probes=2,
        lanczos_steps=6,
        seeds=2,
        folder=str(tmp_path),
        runs=str(tmp_path / "r"),
    )
    found = spectrum_along_training.main(config)
    with np.load(tmp_path / "spectrum.npz") as stored:
        curves = dict(stored)
    assert curves["sam/top"].shape == (2, 2, 5)
    assert curves["sgd/nodes"].shape == curves["sgd/weights"].shape == (2, 2, 2, 11)
    ratio = curves["sgd/top"][:, 1, 0] / abs(curves["sgd/top"][:, 1, 4])
    assert found["intervals"]["sgd"]["ratio"][2][0] == pytest.approx(ratio.mean())
    assert len(found["claims"]) == 3
    assert (tmp_path / "spectrum.png").exists()


def test_on_a_map_of_gsam_the_ends_of_the_axes_are_compared():
    from analysis_scripts.training.gsam_map import claims

    rho, alpha = np.array([1.0, 2.0])[:, None], np.array([0.0, 1.0, 2.0])
    top = np.stack([2.0 ** (-rho - alpha), 2.0 ** (-rho - 1.1 * alpha)])  # two seeds
    found = claims({"lambda_max": top, "estimate": top**2, "accuracy": 90 + top, "gap": top})
    assert [own.verdict for own in found[:5]] == ["agrees"] * 5
    assert found[1].found == "-1.00 [-1.00, -1.00] doublings from the smallest to the largest ρ"
    assert found[4].found == "their rank correlation is +1.00 [+1.00, +1.00]"
    assert found[5].claim == "2h/ρ² follows λmax over α at the same ρ"
    assert found[6].verdict == "differs"  # the accuracy falls with α
    assert found[7].verdict == "agrees"


def test_a_cell_that_does_not_learn_is_left_out_and_named():
    from analysis_scripts.training.gsam_map import Config, claims, sentence, trained

    cells = np.arange(1.0, 13).reshape(2, 2, 3)
    maps = {"estimate": cells, "gap": cells, "lambda_max": np.ones((2, 2, 3)), "accuracy": np.full((2, 2, 3), 90)}
    maps["accuracy"][0, 1, 2], maps["lambda_max"][:, 1, 2] = 10, 1e-9
    maps["lambda_max"][:, 0, 2] = 0.5
    assert trained(maps).tolist() == [[True] * 3, [True, True, False]]
    assert claims(maps)[0].found == "-1.00 [-1.00, -1.00] doublings from the smallest to the largest α"
    text = sentence(maps, Config(rhos=(0.1, 0.2), alphas=(0.0, 0.4, 0.8), seeds=2))
    assert "without the rows and columns of (ρ = 0.2, α = 0.8), where a seed stays below 80 %" in text


def test_a_run_of_the_map_starts_from_the_same_networks(tmp_path):
    from analysis_scripts.training import gsam_map

    config = gsam_map.Config(
        rhos=(0.05, 0.1), alphas=(0.0, 0.4), hidden=(4,), epochs=1, images=50, seeds=2, folder=str(tmp_path)
    )
    gsam_map.main(config)
    with np.load(tmp_path / "gsam_map.npz") as stored:
        maps = dict(stored)
    assert maps["lambda_max"].shape == (2, 2, 2)
    assert maps["estimate"][:, 1] == pytest.approx(2 * maps["gap"][:, 1] / 0.1**2)
    assert "claims" not in json.loads((tmp_path / "gsam_map.json").read_text())  # one epoch teaches too little
    assert (tmp_path / "gsam_map.png").exists()
