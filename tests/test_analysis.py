import copy

import pytest
import torch
from cases import make

from landscape.analysis import analyze
from landscape.metrics import METRICS, worst_case_gap


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


def test_work_is_shared() -> None:
    problem = make("mlp").problem()
    passes = 0
    loss_and_gradient = problem.loss_and_gradient

    def counted(w: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal passes
        passes += w is None
        return loss_and_gradient(w)

    problem.loss_and_gradient = counted  # type: ignore[method-assign]
    analyze(problem, ["surrogate_gap", "worst_case_gap", "gradient_norm"], progress=False)
    assert passes == 1


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
