"""Gradient-times: what each kind of pass is charged, over whole data sets and parts of them."""

from math import inf

import pytest
import torch
from cases import make, normal
from torch import nn
from torch.nn import functional as F

from landscape import metrics
from landscape.curvature import fisher, ggn, hessian
from landscape.linalg import eigen, top_eigenpairs
from landscape.metrics import METRICS, average_gap, lambda_max, m_sharpness, pac_bayes_sam, spectral, surrogate_gap
from landscape.metrics.shared_computation import SharedComputation
from landscape.metrics.spectral import leading_pairs, pairs_cost
from landscape.problem import Problem
from landscape.problem.cost import FORWARD, billed


def relu_network() -> Problem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    return Problem(model, F.cross_entropy, [(normal(64, 5), torch.arange(64) % 3)])


def spent(problem, work) -> float:
    with billed() as bill:
        work()
    return bill.work / problem.extent.units


def test_passes():
    problem = make("mlp").problem()
    assert spent(problem, problem.loss) == pytest.approx(1 / 3)
    assert spent(problem, problem.outputs) == pytest.approx(1 / 3)
    assert spent(problem, problem.gradient) == pytest.approx(1)
    assert spent(problem, problem.batches_with_units) == 0


@pytest.mark.parametrize(
    ("mode", "memory", "first", "second"),
    [
        ("double_backward", None, 1 + 3 * 2, 3 * 2),  # the graph is built once
        ("double_backward", 0, 1 + 3 * 2, 1 + 3 * 2),  # or at every product
        ("forward_over_reverse", None, 3 * 3, 3 * 3),
        ("central_differences", None, 3 * 4, 3 * 4),
    ],
)
def test_hessian_products_by_mode(mode, memory, first, second):
    problem = make("mlp").problem()
    H, block = hessian(problem, mode=mode, memory=memory), torch.ones(problem.size, 3, dtype=torch.float64)
    assert spent(problem, lambda: H.matmat(block)) == pytest.approx(first)
    assert spent(problem, lambda: H.matmat(block)) == pytest.approx(second)


@pytest.mark.parametrize("operator", [ggn, fisher])
def test_gauss_newton_products(operator):
    problem = make("mlp").problem()
    A, v = operator(problem), torch.ones(problem.size, dtype=torch.float64)
    assert spent(problem, lambda: A @ v) == pytest.approx(1 + 4 / 3)
    assert spent(problem, lambda: A @ v) == pytest.approx(4 / 3)


def test_recomputed_statistics_are_a_forward_pass():
    problem = make("conv_bn").problem(batch_norm="recompute")
    assert spent(problem, problem.gradient) == pytest.approx(4 / 3)


def test_the_extent_is_that_of_the_data_at_hand():
    problem = make("mlp").problem()
    assert str(problem.extent) == "64 units in 2 batches"
    part = problem.with_data(problem.data[:1])
    assert str(part.extent) == "60 units in 1 batch"
    assert str(problem.extent) == "64 units in 2 batches"


def test_metrics_called_directly_carry_cost_and_data():
    problem = make("mlp").problem()
    found = surrogate_gap(problem)
    assert found.gradient_times == pytest.approx(1 + FORWARD)
    assert found.seconds > 0
    assert found.data == "64 units in 2 batches"
    assert surrogate_gap(problem, origin=problem.loss_and_gradient()).gradient_times == pytest.approx(FORWARD)
    assert average_gap(problem, draws=5).gradient_times == pytest.approx(6 * FORWARD)


def test_parts_of_the_data_count_for_their_share():
    problem = make("mlp").problem()
    for m, compared in ((1, 60), (7, 60), (64, 64)):  # samples seen twice, to see whether the loss may be cut so
        expected = 1 + FORWARD + 2 * FORWARD * compared / 64
        assert m_sharpness(problem, m=m).gradient_times == pytest.approx(expected)


def test_a_metric_within_a_metric_is_counted_once():
    problem = make("mlp").problem()
    assert pac_bayes_sam(problem, steps=3).gradient_times == pytest.approx(1 + 3)


def test_work_that_is_handed_in_costs_nothing():
    problem = make("mlp").problem()
    assert lambda_max(problem, pairs=leading_pairs(problem)).gradient_times == 0
    alone = lambda_max(problem)
    assert alone.gradient_times == pytest.approx(1 + 2 * alone.matvecs)


OTHERS = {  # public metrics that METRICS does not list, with gradient-times
    "active_neurons": (metrics.active_neurons, FORWARD),
    "adversarial_corruption": (lambda p: metrics.adversarial_corruption(p, [0.1, 0.2]), 1 + 2 * FORWARD),
    "distance_from_initialisation": (lambda p: metrics.distance_from_initialisation(p, initial=p.vector()), 0),
    "m_sharpness_curve": (lambda p: metrics.m_sharpness_curve(p, [16, 32]), 2 * (1 + 3 * FORWARD)),
    "margin": (metrics.margin, FORWARD),
    "pac_bayes_gaussian": (lambda p: metrics.pac_bayes_gaussian(p, draws=3), 3 * FORWARD),
    "path_norm": (metrics.path_norm, 0),
    "random_corruption": (lambda p: metrics.random_corruption(p, [0.1, 0.2], draws=3), 7 * FORWARD),
}


@pytest.mark.parametrize("name", OTHERS)
def test_metrics_outside_the_list_are_stamped_too(name):
    metric, cost = OTHERS[name]
    found = metric(relu_network())
    assert found.gradient_times == pytest.approx(cost)
    assert found.seconds > 0
    assert found.data == "64 units in 1 batch"


def test_the_sharpness_that_an_optimiser_sees_costs_its_products():
    problem = relu_network()
    found = metrics.preconditioned_sharpness(problem, optimizer=torch.optim.SGD(problem.model.parameters(), lr=0.1))
    assert found.gradient_times == pytest.approx(1 + 2 * found.matvecs)
    assert found.data == "64 units in 1 batch"


def test_every_public_metric_is_stamped_somewhere_here():
    apart = {"Activations", "METRICS", "Metric", "activations", "attention_weights", "leading_pairs", "whole_density"}
    listed = {metric.function.__name__ for metric in METRICS.values()}
    assert set(metrics.__all__) == listed | set(OTHERS) | {"preconditioned_sharpness"} | apart


def test_the_kernel_of_few_samples_is_charged_for_its_columns():
    found = metrics.ntk_condition_number(relu_network(), samples=4)
    assert found.gradient_times == pytest.approx((FORWARD + 1 + 4 / 3 * 4 * 3) * 4 / 64)  # 3 classes


def test_a_failed_piece_of_work_leaves_no_bill_open():
    problem = make("mlp").problem()
    with pytest.raises(ValueError, match="rho"):
        surrogate_gap(problem, rho=-1.0)
    with billed() as bill:
        pass
    top_eigenpairs(hessian(problem), 1)
    assert bill.work == 0


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_will_cost(name):
    problem = make("mlp").problem()
    about = SharedComputation(problem, METRICS, {}, 0, lambda _what, _spent: None).expected(name)
    found = METRICS[name](problem)
    assert 0 <= found.gradient_times <= 1.5 * about.most + 20  # small problems take exact ways that cost less
    if about.least < about.most:  # an ascent or leading pairs, whose ends are counts
        assert about.least - 1 <= found.gradient_times <= about.most


def fresh(*layers: nn.Module) -> Problem:
    """Just initialised, on 64 images of noise in ten classes."""
    return Problem(nn.Sequential(*layers), F.cross_entropy, (normal(64, 1, 8, 8).float(), torch.arange(64) % 10))


def perceptron() -> Problem:
    return fresh(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


def fitted() -> Problem:
    problem = perceptron()
    optimizer = torch.optim.Adam(problem.model.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        inputs, targets = problem.data[0]
        F.cross_entropy(problem.model(inputs), targets).backward()
        optimizer.step()
    return problem


def convolutions() -> Problem:
    return fresh(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 10))


def attention() -> Problem:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(100, 16), nn.Linear(16, 100, bias=False)
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
            self.head.weight = self.embedding.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.layer(self.embedding(ids))).transpose(1, 2)

    ids = torch.arange(78).reshape(6, 13) * 37 % 100
    return Problem(Model(), F.cross_entropy, (ids[:, :-1], ids[:, 1:]))


@pytest.mark.parametrize("basis", [20, 40, "all"])
@pytest.mark.parametrize("make_problem", [relu_network, perceptron, fitted, convolutions, attention])
def test_leading_pairs_cost_what_is_told_of_their_basis(monkeypatch, make_problem, basis):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        problem = make_problem()
    monkeypatch.setattr(spectral, "LARGE", 1 if basis == 20 else inf)
    monkeypatch.setattr(eigen, "SMALL", inf if basis == "all" else 0)
    about = pairs_cost(size=problem.size)
    found = lambda_max(problem)
    assert about.least <= found.gradient_times <= about.most
    assert about.most == min(2 * problem.size + 1, 161 if basis == 20 else 129)
