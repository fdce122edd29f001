"""The toy reproductions: their functions against closed forms, and each script once with a tiny config."""

import json
from math import sqrt

import pytest
import torch
from torch.autograd.functional import hessian

EXACT = {"rtol": 1e-12, "atol": 1e-12}
ENDS = ("json", "npz", "png")


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "power", "decay", "lr", "expected"),
    [
        ("exact", 1.0, 0.0, 0.3, [1.0, 0.7, 0.49, 0.343]),
        ("empirical", 0.5, 0.0, 0.4, [1.0, 0.6, 0.2, -0.2]),  # θ − α sign θ
        ("empirical", 1.0, 1.0, 0.25, [1.0, 3 / 4, 7 / 12, 7 / 12 - 1 / 7]),  # θ − α_k / θ
    ],
)
def test_steps_of_the_natural_gradient(kind, power, decay, lr, expected):
    from analysis_scripts.toys.natural_gradient_toy import Config, Run, descend, gaussian

    path = descend(gaussian(1.0), Run("", kind, power, decay, ("", "", "")), Config(lr=lr, steps=3))
    torch.testing.assert_close(path, tensor(*expected), **EXACT)


def test_natural_gradient_toy(tmp_path):
    from analysis_scripts.toys.natural_gradient_toy import Config, main

    found = main(Config(start=0.4, steps=20, thetas=(0.5, 2.0), draws=5, folder=str(tmp_path)))
    assert max(found[f"error_of_{what}"] for what in ("exact", "empirical", "rate")) < 1e-12
    tails = found["largest_in_second_half"]
    assert tails["F, fixed α"] == pytest.approx(0.4 * 0.7**10)
    assert tails["F̄, p = ½, fixed α"] == pytest.approx(0.2)  # 0.1, -0.2, 0.1, ...
    assert found["exponents"] == pytest.approx({"F̄, p = ½, α / √k": -0.5, "F̄, p = ½, α / k": -1.0}, abs=0.1)
    assert json.loads((tmp_path / "natural_gradient.json").read_text())["claims"] == found["claims"]
    assert {own["verdict"] for own in found["claims"]} == {"agrees"}
    assert {path.name for path in tmp_path.iterdir()} == {f"natural_gradient.{end}" for end in ENDS}


@pytest.mark.parametrize("rule", ["SAM", "ASAM", "FSAM"])
def test_each_rule_goes_to_the_edge_of_its_neighbourhood_where_the_slope_is_highest(rule):
    from analysis_scripts.toys.fisher_sam_toy import divergence, rule_of

    w, g = tensor(-3.0, 7.0), tensor(0.2, -0.5)
    metrics = {
        "SAM": torch.eye(2, dtype=torch.float64),
        "ASAM": torch.diag(1 / w**2),
        "FSAM": hessian(lambda other: divergence(w[0], w[1], other[0], other[1]), w),
    }
    e, _ = rule_of(rule, 0.3).perturb(w, g, None)
    x = torch.linalg.solve(metrics[rule], g)
    torch.testing.assert_close(e, 0.3 * x / (g @ x).sqrt(), **EXACT)
    torch.testing.assert_close(metrics["FSAM"], torch.diag(tensor(1 / 49, 2 / 49)), **EXACT)


def test_fisher_sam_toy(tmp_path):
    from analysis_scripts.toys.fisher_sam_toy import COMPONENTS, Config, loss, main

    m, s, a, _ = COMPONENTS.T
    apart = loss(torch.stack([m[0], s[0]]))  # its own component's divergence is 0 there, the other's far away
    assert float(apart) == pytest.approx(-float(a[0].log()), abs=0.05)
    own = {"starts": (25.0, -17.0), "sigma": 20.0, "near_zero": (-2.0,), "sigmas": (22.0,)}
    config = Config(**own, sam=(0.0,), asam=(0.1,), fisher_sam=(0.2,), steps=60, folder=str(tmp_path))
    found = main(config)
    flat, sharp = found["minima"]["flat"], found["minima"]["sharp"]
    for own in (flat, sharp):
        assert own["gradient_norm"] < 1e-12
        assert min(own["eigenvalues"]) > 0
    assert max(flat["eigenvalues"]) < min(sharp["eigenvalues"])
    assert sharp["loss"] < flat["loss"]
    # plain descent into the valley it starts in
    assert found["ends"]["far"]["SAM, ρ = 0, momentum 0.9"] == ["flat", "sharp"]
    assert found["claims"][0]["verdict"] == "agrees"
    assert {path.name for path in tmp_path.iterdir()} == {f"fisher_sam.{end}" for end in ("json", "png")} | {
        "runs.npz",
        "runs.json",
    }


def test_the_iteration_from_which_on_a_run_stays_inside():
    from analysis_scripts.toys.adahessian_toy import first_stay

    path = tensor(2.0, 0.1, -2.0, 0.1, -0.1)
    found = first_stay(torch.stack([path, path.flip(0), torch.zeros(5, dtype=torch.float64)], 1), 1.0)
    assert found.tolist() == [3.0, float("inf"), 0.0]


def test_adahessian_toy(tmp_path):
    from analysis_scripts.toys.adahessian_toy import Config, main

    found = main(Config(starts=2, steps=100, lrs=(1.0,), folder=str(tmp_path)))
    with_average, without = (found["rippled"][f"lr 1, β₂ {beta2}"] for beta2 in ("0.999", "0"))
    assert abs(with_average["end_from_start"]) < 0.01 < abs(without["end_from_start"])
    assert found["quadratic"]["AdaHessian"] < 1e-12 < found["quadratic"]["gradient descent"]
    assert {path.name for path in tmp_path.iterdir()} == {f"adahessian.{end}" for end in ENDS}


@pytest.mark.parametrize("t", [0.7, 1.5])
def test_both_sharpnesses_of_both_solutions_have_closed_forms(t):
    from analysis_scripts.toys.adam_implicit_bias import measured

    dense = measured(t, torch.stack([tensor(1.0, 1.0, 0.0), tensor(0.0, 0.0, 0.0)]))
    assert dense == pytest.approx({"loss": 0, "trace": 8, "adam_sharpness": 4, "sparse": 0})
    sparse = measured(t, torch.stack([tensor(0.0, 0.0, 1 / sqrt(t)), tensor(0.0, 0.0, 0.0)]))
    assert sparse == pytest.approx({"loss": 0, "trace": 8 * t, "adam_sharpness": 2 * sqrt(2 * t), "sparse": 1})


def test_adam_implicit_bias(tmp_path, monkeypatch):
    from analysis_scripts.toys import adam_implicit_bias as script

    settings = {"ts": (0.7, 1.5), "starts": (0.3, 0.8), "seeds": 2, "steps": 0, "cooling": 100}
    config = script.Config(**settings, folder=str(tmp_path))
    found = script.main(config)
    for own in found["by_t"].values():  # it starts on a minimum, and without noise stays there
        assert max(own["loss"]["mean"]) < 1e-8
        assert own["sparse"]["mean"] == pytest.approx([0.55, 0.55], abs=1e-3)
    monkeypatch.setattr(script, "train", lambda *_: pytest.fail("finished networks are trained again"))
    again = script.main(config)
    assert again.pop("cpu_seconds") >= found.pop("cpu_seconds")
    assert again.pop("seconds") >= found.pop("seconds")  # what a run from the start took is not forgotten
    assert again == found
