import copy

import pytest
import torch
from cases import make

from landscape.metrics import METRICS, pac_bayes_sam, worst_case_gap
from landscape.metrics.analyze import analyze


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_runs_alone_and_repeats(name: str) -> None:
    problem = make("mlp").problem()
    first, second = (METRICS[name](problem, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.value.shape == first.stderr.shape == ()
    assert torch.isfinite(first.value)
    assert torch.isfinite(first.stderr)
    assert first.value == second.value


def test_exactly_the_metrics_asked_for_with_values_that_do_not_depend_on_the_others() -> None:
    problem = make("mlp").problem()
    together = analyze(problem, ["trace", "lambda_max", "average_gap"], progress=False)
    assert list(together) == ["trace", "lambda_max", "average_gap"]
    for name, estimate in together.items():
        assert analyze(problem, [name], progress=False)[name].value == estimate.value


def test_work_is_shared_and_in_a_row_of_its_own() -> None:
    problem = make("mlp").problem()
    found = analyze(problem, ["surrogate_gap", "gradient_norm", "lambda_max", "lambda_max_over_lambda_5"])
    costs = {name: estimate.gradient_times for name, estimate in found.items()}
    assert costs == {
        "surrogate_gap": pytest.approx(1 / 3),
        "gradient_norm": 0,
        "lambda_max": 0,
        "lambda_max_over_lambda_5": 0,
    }
    shared = {what: spent.gradient_times for what, spent in found.shared.items()}
    assert shared == {
        "loss and gradient": pytest.approx(1),
        "timing a gradient": pytest.approx(1),
        "leading eigenpairs": pytest.approx(1 + 2 * found["lambda_max"].matvecs),
    }


def test_a_metric_that_builds_on_another_is_given_it() -> None:
    problem = make("mlp").problem()
    both = analyze(problem, ["pac_bayes_sam", "worst_case_gap"])
    assert both["pac_bayes_sam"].gradient_times == 0
    alone = analyze(problem, ["pac_bayes_sam"])
    assert list(alone) == ["pac_bayes_sam"]
    assert alone["pac_bayes_sam"].value == both["pac_bayes_sam"].value
    assert alone.shared["worst_case_gap"].gradient_times == both["worst_case_gap"].gradient_times
    whole = [found.alone("pac_bayes_sam") for found in (both, alone)]
    parts = [alone.shared[what].gradient_times for what in ("loss and gradient", "worst_case_gap")]
    assert whole[0] == whole[1] == sum(parts)  # wherever they were done
    own = analyze(problem, ["pac_bayes_sam", "worst_case_gap"], settings={"pac_bayes_sam": {"rho": 0.3}})
    assert own["pac_bayes_sam"].value == pac_bayes_sam(problem, rho=0.3, steps=10).value


def test_settings_replace_defaults() -> None:
    problem = make("mlp").problem()
    found = analyze(problem, ["worst_case_gap"], settings={"worst_case_gap": {"steps": 1, "rho": 0.3}}, progress=False)
    assert found["worst_case_gap"].value == worst_case_gap(problem, steps=1, rho=0.3).value


def test_unknown_metrics_are_named() -> None:
    problem = make("mlp").problem()
    with pytest.raises(ValueError, match=r"metrics must be among .*lambda_max.*; got lambda_mox"):
        analyze(problem, ["lambda_mox"])
    with pytest.raises(ValueError, match="got sharpness"):
        analyze(problem, ["trace"], settings={"sharpness": {}})


def test_the_network_is_left_as_it_was() -> None:
    problem = make("conv_bn").problem(batch_norm="batch")
    before = copy.deepcopy(problem.model.state_dict())
    flags = [module.training for module in problem.model.modules()]
    state = torch.get_rng_state()
    analyze(problem, ["worst_case_gap", "renyi", "m_sharpness"], progress=False, settings={"m_sharpness": {"m": 16}})
    assert all(torch.equal(value, before[key]) for key, value in problem.model.state_dict().items())
    assert [module.training for module in problem.model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)
