import pytest
import torch
from cases import normal

from landscape.slices.directions.direction_set import Directions, orthogonalised


def test_norms_and_cosines_are_those_of_the_vectors():
    d1, d2 = Directions([torch.tensor([3.0, 4.0, 0.0]), torch.tensor([0.0, 2.0, 0.0])], kind="own")
    found = Directions([d1, d2], kind="own", step=1)
    assert found.norms.tolist() == [5.0, 2.0]
    assert found.cosines.tolist() == [[1.0, 0.8], [0.8, 1.0]]
    assert found.details == {"kind": "own", "step": 1}


def test_gram_schmidt_keeps_the_norms_the_span_and_the_first_vector():
    vectors = [normal(9, seed=i) for i in range(4)]
    made = Directions(orthogonalised(vectors))
    assert torch.equal(made[0], vectors[0])
    torch.testing.assert_close(made.cosines, torch.eye(4, dtype=torch.float64), rtol=0.0, atol=1e-14)
    torch.testing.assert_close(made.norms, Directions(vectors).norms, rtol=1e-14, atol=0.0)
    for count in range(1, 5):
        joined = torch.stack(vectors[:count] + list(made[:count]))
        assert torch.linalg.matrix_rank(joined) == count


def test_nearly_parallel_vectors_become_orthogonal_all_the_same():
    first = normal(50)
    made = Directions(orthogonalised([first, first + 1e-5 * normal(50, seed=1)]))
    assert abs(float(made.cosines[0, 1])) < 1e-14


def test_a_vector_in_the_span_of_the_others_is_an_error():
    first, second = normal(5), normal(5, seed=1)
    with pytest.raises(ValueError, match="direction 3 must not lie in the span"):
        orthogonalised([first, second, first - 2 * second])
