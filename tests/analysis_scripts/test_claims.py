"""What scripts say of the papers' claims, on made rows whose verdicts are known."""

import numpy as np
import pytest

from analysis_scripts._shared.over_seeds import at_best_of_others
from analysis_scripts.sharpness import fisher_vs_euclid, invariance, m_sharpness, trace_calibration
from landscape.metrics import METRICS


def verdicts(claims):
    return [claim.verdict for claim in claims]


def test_no_seed_chooses_its_own_setting():
    errors = {"a": [0.0, 9.0, 9.0], "b": [5.0, 5.0, 5.0]}
    assert at_best_of_others(errors) == [5, 9, 9]  # where seed 0 is among the others, a is chosen
    assert at_best_of_others({"a": [1.0, 1.0], "b": [3.0, 0.0]}) == [3, 1]


def test_small_m_is_judged_as_predictor_and_in_training():
    config = m_sharpness.Config(trained=(4, 64), radii=(0.1, 0.2, 0.4), seeds=(0, 1, 2), measured=(1, 64))
    rng, rows = np.random.default_rng(0), []
    for m in config.trained:
        for rho in config.radii:
            gap = rng.standard_normal()
            for seed in config.seeds:
                sharpness = {"1": gap + 1e-3 * seed, "64": float(rng.standard_normal())}
                accuracy = 0.9 - 0.001 * m - 0.01 * rho + 0.0001 * seed * m
                own = {"m": m, "rho": rho, "seed": seed, "test_accuracy": accuracy}
                rows.append({**own, "generalization_gap": gap, "m_sharpness": sharpness})
    taus = {m: m_sharpness.correlation(rows, m) for m in config.measured}
    predicts, trains = m_sharpness.claims(rows, taus, config)
    assert predicts.verdict == "agrees"
    assert f"{taus[1].tau:.2f} and {taus[64].tau:.2f}" in predicts.found
    assert trains.verdict == "agrees"
    assert trains.found.startswith("-5.4 [")  # points: .001 (64 − 4), less .0001 · seed (64 − 4) of the three seeds


def test_ellipsoid_and_ball_are_judged_over_all_networks():
    config = fisher_vs_euclid.Config(epochs=(1,), divergences=(1e-5, 0.1), rules={"sgd": {}, "sam": {}})
    values = {  # geometry: rise at the small and at the large divergence, cosine
        "fisher": (4.0, 1.0, 1.0),
        "fisher_diagonal": (1.0, 2.0, 0.2),
        "euclidean": (1.0, 2.0, 0.2),
    }
    rows = [
        {
            "rule": rule, "seed": seed, "epoch": 1, "divergence": amount, "geometry": name,
            "rise": own[i] * (1 + 0.01 * seed * (name == "fisher")), "cosine": own[2] + 0.01 * seed, "slope": 1.0,
        }
        for rule in config.rules
        for seed in config.seeds
        for i, amount in enumerate(config.divergences)
        for name, own in values.items()
    ]  # fmt: skip
    found = fisher_vs_euclid.claims(rows, config)
    assert verdicts(found) == ["agrees", "differs", "agrees", "differs"]
    assert "at 1e-05 nats 4.04 [" in found[0].found


@pytest.mark.parametrize(
    ("name", "change", "verdict"),
    [("tr H", 3.0, "agrees"), ("tr H", 1e-9, "differs"), ("wᵀFw", 1e-9, "agrees"), ("wᵀFw", 0.05, "differs")],
)
def test_invariance_is_claimed_row_by_row(name, change, verdict):
    rows = [{"name": name, "change": change}, {"name": "weight_norm", "change": 1.0}]
    assert verdicts(invariance.claims(rows)) == [verdict]


def test_every_claim_of_invariance_has_its_row():
    assert invariance.CLAIMED.keys() <= invariance.known().keys() | invariance.biased().keys() | METRICS.keys()


@pytest.mark.parametrize(
    ("covered", "verdict"), [([0.95, 0.94], "agrees"), ([0.95, 0.85], "differs"), ([0.95, 0.90], "cannot say")]
)
def test_stated_errors_are_judged_where_they_are_worst(covered, verdict):
    table = {"xtrace, 30": dict(zip(("flat", "step"), covered, strict=True))}
    (claim,) = trace_calibration.claims(table, 1000)
    assert claim.verdict == verdict
    assert f"{covered[1]:.2f} [" in claim.found
