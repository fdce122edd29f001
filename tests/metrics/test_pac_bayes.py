from math import log, sqrt

import pytest
import torch
from cases import normal
from quadratics import quadratic

from landscape.metrics import pac_bayes_sam


def test_equals_theorem_2_on_a_quadratic() -> None:
    k, n, rho, delta = 5, 400, 0.1, 0.05
    w = normal(k)
    # L = ½|w|²: the worst case in the ball is ½(|w| + rho)²
    worst = 0.5 * (w.norm().item() + rho) ** 2
    inner = k * log(1 + w.square().sum().item() / rho**2 * (1 + sqrt(log(n) / k)) ** 2)
    complexity = sqrt((inner + 4 * log(n / delta) + 8 * log(6 * n + 3 * k)) / (n - 1))
    found = pac_bayes_sam(quadratic(torch.eye(k).double(), w=w), rho=rho, n=n, delta=delta)
    assert found.value.item() == pytest.approx(worst + complexity, rel=1e-9)
    tighter = 1 / sqrt(n) + sqrt((inner / 4 + log(n / delta) + 2 * log(6 * n + 3 * k)) / (n - 1))
    assert found.details["tighter_complexity"] == pytest.approx(tighter, rel=1e-12)
    assert found.details["vacuous"] == 0


def test_n_defaults_to_the_units_in_the_data_and_vacuity_is_said() -> None:
    problem = quadratic(torch.eye(5).double(), w=normal(5))
    assert pac_bayes_sam(problem).value == pac_bayes_sam(problem, n=7).value
    assert pac_bayes_sam(problem).details["vacuous"] == 1


@pytest.mark.parametrize("settings", [{"rho": 0.0}, {"delta": 0.0}, {"delta": 1.0}, {"n": 1}])
def test_bad_settings(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        pac_bayes_sam(quadratic(torch.eye(3).double()), **settings)
