"""The scripts that follow a training step by step: sam_sde, alignment, gsam_gap, and what they share."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import normal, seeded, symmetric
from quadratics import quadratic
from torch.nn import functional as F

import landscape as ls
from landscape.vectors import unit


def small_sde(**changes):
    from analysis_scripts.training.sam_sde import Config, setting

    config = replace(Config(images=24, batches=3, hidden=3), **changes)
    own = setting(config, 0)
    return config, own, own.problem().vector()


def of_batch(own, index):
    return ls.Problem(own.model, F.cross_entropy, (own.inputs[index], own.targets[index]))


@pytest.mark.parametrize(("order", "factor"), [(1, 4), (2, 8)])
def test_what_the_drift_leaves_of_sams_gradient_falls_as_the_next_power_of_rho(order, factor):
    from analysis_scripts.training.sam_sde import directions

    _, own, w = small_sde()

    def remainder(rho):
        d = directions(own, w[None], torch.tensor([rho], dtype=torch.float64), order)[0]
        sam = []
        for problem in (of_batch(own, index) for index in range(3)):
            sam.append(problem.gradient(w + rho * unit(problem.gradient(w))))
        return (d - torch.stack(sam)).norm(dim=1)

    ratios = remainder(0.02) / remainder(0.01)
    assert ratios == pytest.approx([factor] * 3, rel=0.03)


def test_the_second_order_drift_is_the_gradient_of_the_loss_and_rho_times_the_mean_gradient_norm():
    from analysis_scripts.training.sam_sde import directions

    _, own, w = small_sde()
    rho = 0.3

    def regularised(w):
        losses = [own.loss(w, x, y) for x, y in zip(own.inputs, own.targets, strict=True)]
        norms = [torch.autograd.grad(loss, w, create_graph=True)[0].norm() for loss in losses]
        return sum(losses) / 3 + rho * sum(norms) / 3

    leaf = w.clone().requires_grad_()
    expected = torch.autograd.grad(regularised(leaf), leaf)[0]
    drift = directions(own, w[None], torch.tensor([rho], dtype=torch.float64), 1)[0].mean(0)
    assert torch.allclose(drift, expected, rtol=1e-10, atol=1e-12)


def test_the_noise_has_the_covariance_of_the_batches_directions():
    from analysis_scripts.training.sam_sde import noise

    d = normal(4, 6)
    factor = noise(d.expand(4, 4, 6), torch.eye(4).double())  # row j: what z_j adds
    assert torch.allclose(factor.T @ factor, torch.cov(d.T, correction=0))


def test_without_noise_the_equations_follow_sam_as_closely_as_their_order_says():
    from analysis_scripts.training.sam_sde import discrete, euler_maruyama

    config, own, w = small_sde(batches=1, images=16, steps=5, substeps=1)
    rho = 0.02
    rows, rhos = w[None], torch.tensor([rho], dtype=torch.float64)
    walks = {order: list(euler_maruyama(own, rows, rhos, order, config, seeded())) for order in (1, 2)}
    sam = list(discrete(own, rho, config, seeded()))  # moves the model
    second, third = (float((walks[order][-1][0] - sam[-1]).norm()) for order in (1, 2))
    assert 0 < third < 0.1 * second < 0.1 * rho**2


def test_a_run_of_the_equations_writes_its_curves_and_reads_them_the_next_time(tmp_path, monkeypatch):
    from analysis_scripts.training import sam_sde

    config, *_ = small_sde(steps=2, every=2, substeps=1, seeds=1, rhos=(0.0, 0.2), folder=str(tmp_path))
    found = sam_sde.main(config)
    with np.load(tmp_path / "curves.npz") as stored:
        curves = dict(stored)
    assert curves["sam/0.2/loss"].shape == (1, 2)
    for name in sam_sde.QUANTITIES:
        assert np.allclose(curves[f"second/0.0/{name}"], curves[f"third/0.0/{name}"], rtol=1e-6)  # both are SGD's
        assert np.allclose(curves[f"second/0.2/{name}"][:, 0], curves[f"sam/0.2/{name}"][:, 0], rtol=1e-6)
    assert not np.allclose(curves["second/0.2/loss"], curves["third/0.2/loss"], rtol=1e-6)
    assert (tmp_path / "curves.png").exists()
    monkeypatch.setattr(sam_sde, "simulate", lambda config: pytest.fail("computed again"))
    assert sam_sde.main(config).items() >= {"departure": found["departure"], "sentence": found["sentence"]}.items()


def test_departure_is_the_mean_over_time_of_the_relative_difference_of_means():
    from analysis_scripts.training.sam_sde import departure

    curves = {"sam/0.1/loss": np.array([[1.0, 2, 4], [1.0, 4, 4]]), "third/0.1/loss": np.array([[1.0, 3.3, 2]])}
    assert departure(curves, "third", 0.1, "loss") == pytest.approx((0.1 + 0.5) / 2)


def test_the_sentence_counts_where_the_third_order_is_nearer():
    from analysis_scripts.training.sam_sde import QUANTITIES, Config, sentence

    rows = {
        "second": {"0.0": 0.01, "0.2": 0.1, "0.5": 0.2, "1.0": 0.3},
        "third": {"0.0": 0.01, "0.2": 0.0, "0.5": 0.1, "1.0": 0.4},
    }
    text = sentence(dict.fromkeys(QUANTITIES, rows), Config(rhos=(0.0, 0.2, 0.5, 1.0)))
    assert "in 12 of 18 comparisons" in text
    assert "ρ = 1: 30.0% and 40.0%" in text


def test_each_quantity_of_the_equations_is_judged_seed_by_seed():
    """Second-order departures of .2 and .3, third-order ones of .1: the interval of .1 and .2 by hand, t = 12.706."""
    from analysis_scripts.training.sam_sde import QUANTITIES, Config, claims

    sam = np.ones((2, 3))
    kinds = {"sam": sam, "second": sam + np.array([[0.2], [-0.3]]), "third": sam + 0.1}
    curves = {f"{kind}/0.2/{name}": own for kind, own in kinds.items() for name in QUANTITIES}
    found = claims(curves, Config(rhos=(0.0, 0.2), seeds=2))
    assert [own.verdict for own in found] == ["cannot say"] * 6
    assert found[0].found == "by +15.0 [-48.5, +78.5] points of mean departure"
    curves["second/0.2/loss"] = sam + np.array([[0.2], [0.2001]])
    assert claims(curves, Config(rhos=(0.0, 0.2), seeds=2))[0].verdict == "agrees"


def test_rules_are_told_apart_seed_by_seed():
    from analysis_scripts.training.alignment import QUANTITIES, RULES, claims

    ends = {"sgd": (2.0, 3.0), "sam": (1.0, 2.1), "eigen_sam": (0.9, 2.2), "reverse_sam": (3.0, 4.1), "egr": (1.0, 2.1)}
    curves = {f"{rule}/{name}": np.array([[end] * 2 for end in ends[rule]]) for rule in RULES for name in QUANTITIES}
    found = {own.claim: own for own in claims(curves)}
    assert found["λmax of SAM below SGD's"].verdict == "agrees"  # -1 and -.9 of values that spread by 1
    assert found["|ê · v₁| of Eigen-SAM above SAM's"].verdict == "cannot say"
    assert found["training loss of Reverse-SAM other than SAM's"].verdict == "agrees"
    assert found["training loss of EGR other than SAM's"].verdict == "cannot say"
    assert next(iter(found.values())).verdict == "cannot say"  # 1.55 for an alignment, from 1 to 2.1


def test_alignments_at_the_first_step_are_those_of_the_rules_formulas(tmp_path):
    """e = ρ(ĝ + α sign(g·v) v⊥): with c = |ĝ·v|, |ê·v| = (c + α(1 − c²)) / √(1 + α²(1 − c²))."""
    from analysis_scripts.training import alignment

    config = alignment.Config(
        width=2,
        epochs=1,
        batch_size=600,
        every=1,
        images=50,
        eigen_images=50,
        products=40,
        seeds=2,
        folder=str(tmp_path),
        runs=str(tmp_path / "runs"),
    )
    table = alignment.main(config)["summary"]
    with np.load(tmp_path / "alignment.npz") as stored:
        curves = dict(stored)
    first = {rule: curves[f"{rule}/alignment"][:, 0] for rule in alignment.RULES}
    for rule in ("sgd", "reverse_sam", "egr"):
        assert first[rule] == pytest.approx(first["sam"], rel=1e-3)
    c, alpha = first["sam"], config.alpha
    across = 1 - c**2
    assert first["eigen_sam"] == pytest.approx((c + alpha * across) / (1 + alpha**2 * across) ** 0.5, rel=1e-2)
    assert curves["sgd/step"].tolist() == [[0, 1]] * 2
    ends = curves["egr/test_accuracy"][:, -1]
    mean, low, high = table["egr"]["test_accuracy"]
    assert mean == pytest.approx(ends.mean())
    assert (high - low) / 2 == pytest.approx(12.706 * abs(ends[0] - ends[1]) / 2, rel=1e-4, abs=1e-12)
    assert [table[rule]["passes"] for rule in alignment.RULES] == [1, 2, 2, 2, 3]
    assert [table[rule]["products"] for rule in alignment.RULES] == [0, 0, 40 * 50 / 600 / 10, 0, 0]
    assert (tmp_path / "alignment.png").exists()


def test_a_watched_rule_does_what_it_did():
    from analysis_scripts.training.alignment import watched

    w, g = normal(5), normal(5, seed=1)
    rule, last = watched(ls.rules.reverse_sam(0.3))
    e, state = rule.perturb(w, g, None)
    assert torch.equal(e, -0.3 * unit(g))
    assert state is None
    assert torch.allclose(last["e"], -unit(g))
    watched_sgd, last = watched(ls.rules.sam(0.0))
    assert not watched_sgd.perturb(w, g, None)[0].any()
    assert torch.equal(last["e"], unit(g))


def test_what_is_measured_along_gsam_is_exact_on_a_quadratic():
    from analysis_scripts._shared.digits_steps import Leading
    from analysis_scripts.training.gsam_gap import measured

    A, b, w, rho = symmetric(torch.linspace(0.1, 5, 8)), normal(8), normal(8, seed=1), 0.2
    problem = quadratic(A, b, w)
    row = measured(problem, Leading(problem, tol=1e-8), rho)
    g = A @ w + b
    u = unit(g)
    along = float(u @ A @ u)
    assert row["lambda_max"] == pytest.approx(5, rel=1e-6)
    assert row["along_gradient"] == pytest.approx(along, rel=1e-8)
    assert row["curvature_along_gradient"] == pytest.approx(along, rel=1e-8)
    assert row["two_h_over_rho2"] == pytest.approx(along + 2 * float(g.norm()) / rho, rel=1e-8)
    assert row["gap"] == pytest.approx(rho * float(g.norm()) + rho**2 / 2 * along, rel=1e-8)
    assert row["cosine"] == pytest.approx(float(u @ unit(g + rho * A @ u)), rel=1e-8)


def test_a_run_of_gsam_starts_from_the_same_gap_for_all_alphas(tmp_path):
    from analysis_scripts.training import gsam_gap

    config = gsam_gap.Config(
        alphas=(0.0, 0.4),
        width=2,
        epochs=1,
        batch_size=600,
        every=1,
        images=50,
        seeds=2,
        folder=str(tmp_path),
        runs=str(tmp_path / "runs"),
    )
    table = gsam_gap.main(config)["summary"]
    with np.load(tmp_path / "gsam_gap.npz") as stored:
        curves = dict(stored)
    assert np.array_equal(curves["0.0/gap"][:, 0], curves["0.4/gap"][:, 0])
    assert not np.array_equal(curves["0.0/gap"], curves["0.4/gap"])
    share = config.rho * curves["0.4/gradient_norm"] / curves["0.4/gap"]
    assert table["0.4"]["gradient_share_of_gap"][0] == pytest.approx(np.median(share[:, 1:], 1).mean())
    assert (tmp_path / "gsam_gap.png").exists()


def test_the_first_eigenvector_is_where_the_next_search_starts():
    from analysis_scripts._shared.digits_steps import Leading

    leading = Leading(quadratic(symmetric(torch.linspace(0, 1, 60) ** 4), normal(60)), tol=1e-8)
    first, again = leading(), leading()
    assert first.values[0] == pytest.approx(1, abs=1e-8)
    assert again.matvecs < first.matvecs


def test_steps_go_through_all_images_and_end_on_half_a_cosine():
    from analysis_scripts._shared.digits_steps import steps
    from landscape.data import digits
    from landscape.models import build

    data, model = digits(), build("mlp", {"hidden": [4]}, 0)
    config = SimpleNamespace(lr=0.4, momentum=0.0, weight_decay=0.0, epochs=2, batch_size=500)
    optimizer, closures = steps(model, ls.rules.sam(0.1), data, config, seed=0)
    rates = []
    for closure in closures:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step(closure)
    assert rates == pytest.approx([0.2 * (1 + np.cos(np.pi * step / 4)) for step in range(4)])


@dataclass(frozen=True)
class Settings:
    rates: tuple[float, ...] = (0.1,)


def test_arrays_are_kept_for_the_config_they_were_made_for(tmp_path):
    from analysis_scripts._shared.frame import kept

    calls = []

    def compute():
        calls.append(1)
        return {"x": np.arange(3)}

    for _ in range(2):
        assert kept(tmp_path / "lr0.1", Settings(), compute)["x"].tolist() == [0, 1, 2]
    assert len(calls) == 1
    kept(tmp_path / "lr0.1", Settings(rates=(0.2,)), compute)
    assert len(calls) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"lr0.1.npz", "lr0.1.json"}
