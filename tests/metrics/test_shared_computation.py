"""What `analyze` computes once and hands to every metric that names it."""

import pytest
from cases import make, seeded

from landscape.metrics import METRICS, leading_pairs, whole_density
from landscape.problem import Problem

TAKING = [name for name, metric in METRICS.items() if {"origin", "pairs", "density"} & {*metric.needs}]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make("mlp").problem()


@pytest.fixture(scope="module")
def shared(problem: Problem) -> dict[str, object]:
    return {
        "origin": problem.loss_and_gradient(),
        "pairs": leading_pairs(problem, seeded(3)),
        "density": whole_density(problem, seeded(3)),
    }


@pytest.mark.parametrize("name", TAKING)
def test_a_metric_gives_the_same_with_it_as_alone(problem: Problem, shared: dict[str, object], name: str) -> None:
    metric = METRICS[name]
    own = {key: value for key, value in shared.items() if key in metric.needs}
    assert metric(problem, **own, generator=seeded(3)).value == metric(problem, generator=seeded(3)).value
