"""The scripts components, m_sharpness and fisher_vs_euclid: parts against closed forms, figures from rows."""

from importlib import import_module

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared import many_networks
from landscape.models import build


def script(name):
    return vars(import_module(f"analysis_scripts.sharpness.{name}"))


@pytest.mark.parametrize("model", ["vit", "mixer"])
def test_the_parts_of_a_network_are_all_of_it_but_the_last_normalisation(model):
    network = build(model, {"dim": 4, "depth": 2, **({"heads": 2} if model == "vit" else {})}, 0)
    problem = ls.Problem(network, F.cross_entropy, [])
    blocks = ls.hessian_blocks(problem, script("components")["parts"](model, 2))
    size = {name: block.shape[0] for name, block in blocks.items()}
    last = sum(p.numel() for p in network.norm.parameters())
    assert size["whole"] == problem.size
    assert size["embedding"] + size["block 1"] + size["block 2"] + size["head"] == problem.size - last
    kinds = [name for name in size if name not in {"embedding", "block 1", "block 2", "head", "whole"}]
    assert sum(size[name] for name in kinds) == size["block 1"] + size["block 2"]


def test_the_claims_on_components_are_decided_by_intervals_over_the_seeds():
    found = script("components")
    parts = ("block 1", "block 2", "whole")
    rows = [
        {
            "model": "vit", "rule": rule, "seed": seed, "train_loss": 0.05, "test_accuracy": 0.5,
            "lambda_max": dict(zip(parts, values, strict=True)),
        }
        for rule, seed, values in (
            ("AdamW", 0, (4.0, 1.0, 8.0)),
            ("AdamW", 1, (4.1, 1.0, 8.0)),
            ("SAM", 0, (1.0, 9.0, 4.0)),
            ("SAM", 1, (1.0, 1.0, 4.0)),
        )
    ]  # fmt: skip
    shallow, open_one, lower = found["claims"](rows)
    assert (shallow.verdict, open_one.verdict, lower.verdict) == ("agrees", "cannot say", "cannot say")
    assert lower.found.startswith(
        "lower beyond the interval in 2 of 3 parts, higher in 0; whole network: AdamW over SAM 2"
    )
    assert "ViT, AdamW 0.050, 50.0 %" in found["sentence"](rows)
    assert len(found["draw"](rows).axes) == 1


def test_the_ellipsoid_rises_as_much_more_as_the_dense_fisher_matrix_says():
    torch.manual_seed(0)
    network = nn.Linear(3, 3).double()  # whose Fisher matrix is well conditioned, but for the null directions
    batch = (torch.randn(40, 3, dtype=torch.float64), torch.randint(3, (40,)))
    problem = ls.Problem(network, F.cross_entropy, batch)
    amount = 1e-8
    rows = {row["geometry"]: row for row in script("fisher_vs_euclid")["compared"](problem, [amount], 300)}
    g, matrix = problem.gradient(), ls.fisher(problem).dense()
    best = (g @ torch.linalg.pinv(matrix, hermitian=True, rtol=1e-12) @ g).sqrt() * (2 * amount) ** 0.5
    plain = g @ g / (g @ matrix @ g).sqrt() * (2 * amount) ** 0.5
    assert rows["fisher"]["rise"] == pytest.approx(float(best), rel=1e-2)
    assert rows["euclidean"]["rise"] == pytest.approx(float(plain), rel=1e-2)
    assert rows["fisher"]["rise"] > 1.03 * rows["euclidean"]["rise"]
    assert rows["fisher"]["cosine"] == pytest.approx(1)
    assert rows["fisher"]["slope"] / rows["euclidean"]["slope"] == pytest.approx(float(best / plain), rel=1e-6)
    for row in rows.values():
        assert row["kl"] == pytest.approx(amount, rel=2e-3)


def test_ratios_are_taken_seed_by_seed():
    found = script("fisher_vs_euclid")
    rows = [
        {
            "rule": "sgd", "seed": seed, "epoch": 1, "divergence": 0.1, "geometry": name,
            "rise": rise, "cosine": 0.5, "length": 1.0, "slope": rise,
        }
        for seed, rises in enumerate(((6.0, 2.0, 3.0), (8.0, 2.0, 1.0)))
        for name, rise in zip(("fisher", "euclidean", "fisher_diagonal"), rises, strict=True)
    ]  # fmt: skip
    assert found["ratios"](rows, "sgd", "euclidean", 0.1, "rise")[1].tolist() == [3, 4]
    config = found["Config"](rules={"sgd": {}}, divergences=(0.1,))
    told = found["sentence"](rows, config)
    assert "SGD: to first order the ellipsoid's rise is 3.5 and 3.5 times the ball's" in told
    assert "within 50 %" in told
    assert len(found["draw"](rows, config).axes) == 2


def test_small_m_that_follows_the_gap_is_found_out():
    found = script("m_sharpness")
    config = found["Config"](trained=(4, 64), radii=(0.1, 0.2), seeds=(0, 1), measured=(1, 64))
    order = [(m, rho, seed) for m in config.trained for rho in config.radii for seed in config.seeds]
    rows = [
        {
            "m": m, "rho": rho, "seed": seed, "test_accuracy": 0.8 + 0.02 * seed, "generalization_gap": gap,
            "m_sharpness": {"1": 2.0 * gap, "64": -gap},
        }
        for gap, (m, rho, seed) in enumerate(order)
    ]  # fmt: skip
    taus = {m: found["correlation"](rows, m) for m in config.measured}
    assert (taus[1].tau, taus[64].tau) == (1, -1)
    mean, stderr = found["mean_error"](rows, 4, 0.1)
    assert (mean, stderr) == (pytest.approx(0.19), pytest.approx(0.01))
    assert "m = 64: 19.0 %" in found["sentence"](rows, taus, config)
    assert len(found["draw"](rows, taus, config).axes) == 2


def test_a_network_that_diverged_is_named_where_all_are_needed():
    found = vars(many_networks)["none_failed"]
    assert found({"a": {"x": 1}}) == {"a": {"x": 1}}
    with pytest.raises(ValueError, match="b: the loss is nan"):
        found({"a": {"x": 1}, "b": {"failed": "the loss is nan"}})
