import copy

import pytest
import torch
from cases import make, seeded

from landscape.slices import direction_to, plane_through


def three(name="mlp", parameters=None):
    """A problem and two more networks, whose weights are short binary fractions: their differences are exact."""
    case, source = make(name), seeded(4)
    models = [case.model, copy.deepcopy(case.model), copy.deepcopy(case.model)]
    for model in models:
        for p in model.parameters():
            p.data = torch.randint(-512, 512, p.shape, generator=source).to(p) / 256
    return case.problem(parameters=parameters), models[1], models[2]


@pytest.mark.parametrize("parameters", [None, ["2.weight", "0.bias"]])
def test_a_model_its_state_dict_and_its_vector_give_the_same_direction(parameters):
    problem, other, _ = three(parameters=parameters)
    expected = torch.cat([dict(other.named_parameters())[name].flatten() for name in problem.layout.names])
    found = direction_to(problem, other)
    assert torch.equal(problem.vector() + found, expected)
    assert torch.equal(found, direction_to(problem, other.state_dict()))
    assert torch.equal(found, direction_to(problem, expected))


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("name", ["mlp", "tied"])
def test_the_plane_passes_through_all_three(name, orthogonal):
    problem, second, third = three(name)
    (d1, d2), points = plane_through(problem, second, third, orthogonal=orthogonal)
    w = problem.vector()
    for model, (x, y), close in zip((second, third), points[1:].tolist(), (0.0, orthogonal * 1e-14), strict=True):
        expected = w + direction_to(problem, model)
        torch.testing.assert_close(w + x * d1 + y * d2, expected, rtol=close, atol=close)
    assert points[:2].tolist() == [[0.0, 0.0], [1.0, 0.0]]


def test_the_orthogonal_plane_is_to_scale():
    problem, second, third = three()
    plane, points = plane_through(problem, second, third)
    w = [problem.vector() + v for v in (0.0, direction_to(problem, second), direction_to(problem, third))]
    unit = (w[1] - w[0]).norm()
    torch.testing.assert_close(plane.norms, unit.expand(2))
    assert abs(float(plane.cosines[0, 1])) < 1e-15
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close((points[i] - points[j]).norm() * unit, (w[i] - w[j]).norm())


def test_three_on_a_line_and_models_that_do_not_fit_are_named():
    problem, second, _ = three()
    with pytest.raises(ValueError, match="must span a plane"):
        plane_through(problem, second, problem.vector() + 2 * direction_to(problem, second))
    with pytest.raises(ValueError, match="must span a plane"):
        plane_through(problem, problem.model, second)
    with pytest.raises(ValueError, match=r"lacks \['0.weight', '0.bias', '2.weight'\]"):
        direction_to(problem, torch.nn.Linear(4, 6).double())
    with pytest.raises(ValueError, match=r"0.weight must have shape \(6, 4\), got \(4, 6\)"):
        direction_to(problem, {**second.state_dict(), "0.weight": torch.zeros(4, 6)})
