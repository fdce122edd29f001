import torch
from torch import nn

import landscape as ls
from landscape.linalg.shifted import Shifted


class Unread:
    """Data that must not be read."""

    def __iter__(self):
        raise AssertionError("a repr has read the data")


def test_a_problem_says_what_it_is_and_reads_nothing():
    problem = ls.Problem(nn.Linear(4, 300), nn.functional.cross_entropy, Unread(), dtype=torch.float64)
    said = "P=1,500, criterion=cross_entropy, data=Unread, batch_norm=eval, dtype=float64, device=cpu"
    assert repr(problem) == f"Problem(Linear, {said})"
    assert "Linear, P 1,500, criterion cross_entropy" in problem._repr_html_()
    operator = ls.hessian(problem)
    assert repr(operator) == "OperatorOverData(matrix=hessian, 1,500 x 1,500, dtype=float64, device=cpu, mode=auto)"


def test_what_passes_have_found_is_told():
    data = (torch.ones(20, 4), torch.zeros(20, dtype=torch.long))
    problem = ls.Problem(nn.Linear(4, 3), nn.CrossEntropyLoss(), data)
    problem.loss()
    assert "criterion=CrossEntropyLoss, data=20 units in 1 batch" in repr(problem)
    operator = ls.ggn(problem)
    operator.matvec(torch.arange(15.0))
    assert f"verified={operator.verified:.5g}, mode={operator.mode}" in repr(operator)


def test_operators_made_of_others_name_them():
    matrix = ls.MatrixOperator(torch.eye(3))
    assert repr(matrix) == "MatrixOperator(3 x 3, dtype=float32, device=cpu)"
    shifted = Shifted(matrix, 1.0)
    assert repr(shifted) == "Shifted(3 x 3, dtype=float32, device=cpu, of=MatrixOperator)"
    assert "<script>" not in ls.Problem(type("<script>", (nn.Linear,), {})(2, 1), nn.MSELoss(), Unread())._repr_html_()
