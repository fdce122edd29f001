"""The classical PAC-Bayes bound against dense Gaussians, an error in closed form and the limit of no width."""

from math import log, pi, sqrt

import oracles
import pytest
import torch
from cases import make, normal
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn import functional as F

import landscape as ls
from landscape.metrics import pac_bayes_gaussian
from landscape.metrics.pac_bayes_gaussian import nearest_prior


def classifier(w, x, y):
    """Two linear scores of x (n, d)."""
    model = nn.Linear(x.shape[1], 2, bias=False).double()
    model.weight.data = w.clone()
    return ls.Problem(model, F.cross_entropy, (x, y))


def gaussian(mean, covariance):
    return MultivariateNormal(mean, covariance, validate_args=False)


@pytest.mark.parametrize("covariance", ["isotropic", "fisher"])
def test_kl_is_that_of_the_dense_gaussians_and_no_prior_of_the_grid_is_better(covariance):
    case = make("mlp")
    problem, w = case.problem(), oracles.vector(case)
    centre, sigma, k = w + 0.1 * normal(len(w)), 0.3, len(w)
    matrix = oracles.ggn(case)  # the Fisher matrix of cross entropy
    found = pac_bayes_gaussian(problem, sigma=sigma, covariance=covariance, centre=centre, draws=2).details
    eye = torch.eye(k).double()

    def kl(variance):
        dense = sigma**2 * eye if covariance == "isotropic" else torch.linalg.inv(matrix / sigma**2 + eye / variance)
        return float(kl_divergence(gaussian(w, dense), gaussian(centre, variance * eye)))

    variance = found["prior_variance"]
    assert found["kl"] == pytest.approx(kl(variance), rel=1e-6)
    j = 1 - k * log(variance)
    assert j == pytest.approx(round(j), abs=1e-6)
    bound = found["kl"] + 2 * log(round(j))
    others = [round(j) + step for step in (-30, -3, 3, 30) if round(j) + step >= 1]
    assert all(kl(torch.tensor((1 - other) / k).double().exp()) + 2 * log(other) >= bound - 1e-9 for other in others)
    n = round(sum(units for _, _, units in problem.batches_with_units()))
    log_n_delta = log(n * pi**2 * round(j) ** 2 / (6 * 0.05))
    assert found["complexity"] == pytest.approx(sqrt((found["kl"] + log_n_delta) / (2 * (n - 1))), rel=1e-9)


@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_the_error_of_q_is_that_of_the_normal_margin(sigma):
    w, x, y = normal(2, 3), normal(2, 3, seed=1), torch.tensor([0, 1])
    found = pac_bayes_gaussian(classifier(w, x, y), sigma=sigma, draws=300)
    margin = (x @ w.T)[[0, 1], y] - (x @ w.T)[[0, 1], 1 - y]
    right = Normal(margin, sigma * sqrt(2) * x.norm(dim=1)).cdf(torch.zeros(2).double()).mean()
    assert abs(found.details["error"] - float(right)) < 4 * float(found.stderr)
    assert 0 < found.stderr < 0.04


def test_draws_along_the_fisher_matrix_have_its_covariance():
    w, x = 0.3 * normal(2, 3), normal(4, 3, seed=1)
    y = (x @ w.T).argmax(1)
    problem, sigma = classifier(w, x, y), 0.1
    found = pac_bayes_gaussian(problem, sigma=sigma, covariance="fisher", draws=300)
    dense = torch.linalg.inv(ls.fisher(problem).dense() / sigma**2 + torch.eye(6) / found.details["prior_variance"])
    sign = (1 - 2 * y)[:, None]
    lead = torch.cat([sign * x, -sign * x], dim=1)  # margin = lead · w
    spread = ((lead @ dense) * lead).sum(1).sqrt()
    right = Normal(lead @ w.flatten(), spread).cdf(torch.zeros(4).double()).mean()
    assert abs(found.details["error"] - float(right)) < 4 * float(found.stderr)


def test_of_several_sigmas_the_lowest_bound_is_taken_and_a_narrow_one_is_w_itself():
    w, x = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).double()
    problem = classifier(w, x, torch.tensor([0, 1, 1]))
    each = {sigma: pac_bayes_gaussian(problem, sigma=sigma) for sigma in (1e-6, 0.1, 3.0)}
    assert each[1e-6].details["error"] == pytest.approx(1 / 3)
    assert each[1e-6].stderr == 0
    together = pac_bayes_gaussian(problem, sigma=list(each))
    assert together.value == min(own.value for own in each.values())
    assert each[together.details["sigma"]].value == together.value


def test_nothing_is_paid_where_fisher_says_nothing_and_the_centre_is_w():
    kl, variance, index = nearest_prior(0.1, torch.zeros(4).double(), 0.0, 4, 100)
    assert (kl, variance, index) == (0.0, 1.0, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "sigma must be"),
        ({"sigma": []}, "at least one"),
        ({"delta": 1.0}, "delta must be in"),
        ({"draws": 1}, "draws must be"),
        ({"covariance": "full"}, "covariance must be"),
    ],
)
def test_bad_settings(settings, message):
    problem = classifier(normal(2, 3), normal(2, 3, seed=1), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=message):
        pac_bayes_gaussian(problem, **settings)


def test_large_networks_are_refused_before_a_dense_matrix():
    problem = classifier(normal(2, 2501), normal(2, 2501, seed=1), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="at most 5000 parameters, got 5002"):
        pac_bayes_gaussian(problem, covariance="fisher")
