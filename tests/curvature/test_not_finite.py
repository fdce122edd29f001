"""Products that are NaN where the function has a derivative: another mode gives it, or one line says why not."""

import pytest
import torch
from cases import normal, seeded
from torch import nn
from torch.nn import functional as F
from verified import OPERATORS

from landscape.curvature import hessian
from landscape.linalg import top_eigenpairs, trace
from landscape.problem import Problem


class Net(nn.Module):
    """A function of x and z = x W; rows with x = 0 have z = 0 at every W."""

    def __init__(self, function):
        super().__init__()
        self.w, self.function = nn.Parameter(normal(4, 3, seed=2)), function

    def forward(self, x):
        return self.function(x, x @ self.w)


def used(x):
    return x.any(dim=1)


def where(x, z):
    return z + torch.where(used(x), z.norm(dim=1), 0.0)[:, None] * z.tanh()


def filled(x, z):
    return z + z.norm(dim=1).masked_fill(~used(x), 0.0)[:, None] * z.tanh()


def chosen(x, z):
    """The same function; the norm is only taken of the rows that are used."""
    lengths = z.new_zeros(len(z)).index_put((used(x).nonzero()[:, 0],), z[used(x)].norm(dim=1))
    return z + lengths[:, None] * z.tanh()


def problem_of(function, rows=(12,), zero=(0,), criterion=F.cross_entropy):
    """One batch for each number of rows; in those listed as `zero` the last two rows of x are 0."""
    data = []
    for i, n in enumerate(rows):
        x = normal(n, 4, seed=i)
        x[-2:] *= i not in zero
        data.append((x, torch.randint(3, (n,), generator=seeded(i))))
    return Problem(Net(function), criterion, data)


@pytest.mark.parametrize("function", [where, filled])
@pytest.mark.parametrize(("rows", "zero"), [((12,), (0,)), ((12, 11), (1,)), ((12, 11, 10), (0, 2))])
def test_another_mode_takes_over_where_what_a_branch_leaves_out_is_nan(function, rows, zero):
    problem = problem_of(function, rows, zero)
    right = hessian(problem_of(chosen, rows, zero), verify=False).dense()
    assert hessian(problem, mode="double_backward", verify=False).dense().isnan().any()
    H = hessian(problem)
    assert (H.dense() - right).norm() < 1e-6 * right.norm()
    assert H.mode == "forward_over_reverse"
    assert H.reason == "no second derivative: the product is NaN or infinite"
    assert H.verified < 1e-5
    v = normal(12, seed=7)
    for way in ("forward_over_reverse", "central_differences"):
        assert (hessian(problem, mode=way) @ v - right @ v).norm() < 1e-6 * (right @ v).norm()


def powers(x, z):
    return torch.where(z > 0, z.exp(), z.logcumsumexp(-1)) @ normal(3, 3, seed=5).to(z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["ggn", "exact", "empirical"])
def test_gauss_newton_products_too(kind, dtype):
    x, y = normal(16, 4).to(dtype), torch.randint(3, (16,), generator=seeded(0))
    problem = Problem(Net(powers).to(dtype), F.cross_entropy, [(x, y)])
    make = OPERATORS[kind]
    assert make(problem, mode="double_backward", verify=False).dense().isnan().any()
    J = torch.func.jacrev(lambda w: torch.func.functional_call(problem.model, {"w": w}, (x,)))(problem.model.w.detach())
    assert J.isfinite().all()  # first derivatives are there
    p = problem.outputs().softmax(1)
    r = p - F.one_hot(y, 3)
    C = r[:, :, None] * r[:, None] if kind == "empirical" else torch.diag_embed(p) - p[:, :, None] * p[:, None]
    J = J.detach().flatten(2)
    right = torch.einsum("bip,bij,bjq->pq", J, C, J) / 16
    G = make(problem)
    assert (G.dense() - right).norm() < (1e-4 if dtype == torch.float32 else 1e-6) * right.norm()
    assert G.mode == "central_differences"
    assert G.verified < 1e-2


@pytest.mark.parametrize("call", [trace, lambda A: top_eigenpairs(A, 2), lambda A: A.dense()])
def test_a_mode_asked_for_by_name_says_what_the_cause_may_be(call):
    said = "the product by double_backward is NaN or infinite; the likely cause is a branch of torch.where"
    with pytest.raises(ValueError, match=said) as raised:
        call(hessian(problem_of(where), mode="double_backward"))
    assert str(raised.value).endswith("use mode='auto'")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("mode", ["auto", "double_backward"])
def test_a_norm_at_0_has_no_second_derivative(mode):
    def bare(x, z):
        return z + z.norm(dim=1, keepdim=True)

    with pytest.raises(ValueError, match=r"by double_backward is NaN.*NormBackward0 is taken at 0"):
        hessian(problem_of(bare), mode=mode) @ torch.ones(12).double()


def test_a_vector_that_is_not_finite_is_no_fault_of_the_method():
    H = hessian(problem_of(where, zero=()))
    assert (H @ torch.full((12,), float("nan")).double()).isnan().all()
    assert H.dense().isfinite().all()
    assert H.mode == "double_backward"


def test_what_overflows_is_no_fault_of_the_method():
    def large(z, y):
        return 1e38 * F.cross_entropy(z, y)

    problem = problem_of(chosen, criterion=large)
    single = Problem(problem.model.float(), large, [(x.float(), y) for x, y in problem.data])
    H = hessian(single)
    assert not (H @ torch.full((12,), 1e4)).isfinite().all()
    assert H.mode == "double_backward"
    assert (H @ torch.full((12,), 1e-4)).isfinite().all()


def test_without_verification_a_mode_asked_for_by_name_gives_what_it_has():
    assert (hessian(problem_of(where), mode="double_backward", verify=False) @ torch.ones(12).double()).isnan().any()
    assert hessian(problem_of(where), verify=False).dense().isfinite().all()
