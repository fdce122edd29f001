import pytest
import torch
from cases import make, normal, symmetric
from quadratics import quadratic

from landscape.curvature import ggn, hessian
from landscape.metrics import fisher_rao, relative_flatness
from landscape.problem import Problem


def relative_flatness_by_definition(problem: object) -> list[float]:
    """Σ_{s,s'} <w_s, w_s'> tr(H_ss') of each weight matrix, in two loops over the dense Hessian."""
    H, w, layout = hessian(problem).dense(), problem.vector(), problem.layout
    found = []
    for name, shape, is_weight in zip(layout.names, layout.shapes, layout.is_weight, strict=True):
        if not is_weight or len(shape) < 2:
            continue
        W = w[layout.span(name)].view(shape).flatten(1)
        block = H[layout.span(name), layout.span(name)].view(*W.shape, *W.shape)
        rows = range(len(W))
        found.append(sum(float(W[s] @ W[t] * block[s, :, t].trace()) for s in rows for t in rows))
    return found


@pytest.mark.parametrize("name", ["mlp", "conv_bn"])
def test_relative_flatness_is_that_of_the_definition(name: str) -> None:
    problem = make(name).problem()
    expected = torch.tensor(relative_flatness_by_definition(problem), dtype=torch.float64)
    found = relative_flatness(problem, by="layer", draws=24)
    assert found.value.shape == found.stderr.shape == expected.shape
    assert ((found.value - expected).abs() < 4 * found.stderr).all()
    whole = relative_flatness(problem, draws=24)
    assert whole.value.item() == pytest.approx(found.value.sum().item(), rel=1e-12)
    assert whole.stderr < 0.5 * expected.abs().sum()


def test_fisher_rao_norm() -> None:
    problem = make("mlp").problem()
    w = problem.vector()
    assert fisher_rao(problem).value.item() == pytest.approx((w @ ggn(problem).dense() @ w).item(), rel=1e-10)


def test_fisher_rao_of_a_gaussian_model_is_the_squared_norm_of_its_mean() -> None:
    # N(w, 1) in one dimension: the mean squared error is twice the negative log-likelihood, F = 2 as the loss has it
    model = torch.nn.Linear(1, 1, bias=False).double()
    problem = make("mlp").problem(data=[(torch.ones(5, 1).double(), normal(5, 1))])
    problem = type(problem)(model, torch.nn.functional.mse_loss, problem.data)
    assert fisher_rao(problem).value.item() == pytest.approx(2 * model.weight.item() ** 2, rel=1e-12)


def test_fisher_rao_with_the_labels_of_the_data_is_that_of_liang_et_al() -> None:
    problem = make("mlp").problem()
    w = problem.vector()
    inner = torch.stack([g @ w for g in _single_gradients(problem)])  # <g_i, w> for each sample
    found = fisher_rao(problem, labels="data")
    assert found.value.item() == pytest.approx(inner.square().mean().item(), rel=1e-9)
    assert found.details["norm"] == pytest.approx(found.value.item() ** 0.5)
    assert abs(found.value / fisher_rao(problem).value - 1) > 0.05
    with pytest.raises(ValueError, match="labels must be one of"):
        fisher_rao(problem, labels="drawn")


def _single_gradients(problem: Problem) -> list[torch.Tensor]:
    rows = [(x[i : i + 1], y[i : i + 1]) for x, y in problem.data for i in range(len(y))]
    return [problem.with_data([row]).gradient() for row in rows]


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="draws must be an integer at least 2, got 1"):
        relative_flatness(make("mlp").problem(), draws=1)
    with pytest.raises(ValueError, match="by must be one of"):
        relative_flatness(make("mlp").problem(), by="module")
    with pytest.raises(ValueError, match="at least one weight matrix"):
        relative_flatness(quadratic(symmetric(torch.ones(3))))
