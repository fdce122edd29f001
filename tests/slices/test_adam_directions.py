import pytest
import torch
from cases import everything, make, same
from torch.nn import functional as F

from landscape.slices import adam_directions


def trained(steps, parameters=None):
    case = make("conv_bn")
    optimizer = torch.optim.Adam(case.model.parameters(), betas=(0.9, 0.99))
    gradients = []
    for inputs, targets in case.batches[:1] * steps:
        optimizer.zero_grad()
        F.cross_entropy(case.model(inputs), targets).backward()
        names = [name for name, _ in case.model.named_parameters() if parameters is None or name in parameters]
        gradients.append(torch.cat([dict(case.model.named_parameters())[name].grad.flatten() for name in names]))
        optimizer.step()
    return case.problem(parameters=parameters), optimizer, torch.stack(gradients)


@pytest.mark.parametrize("parameters", [None, ["4.weight", "5.bias"]])
def test_they_are_running_means_of_the_gradient_and_its_square(parameters):
    problem, optimizer, gradients = trained(3, parameters)
    age = torch.arange(2, -1, -1).double()
    mean = 0.1 * (0.9**age) @ gradients
    square = 0.01 * (0.99**age) @ gradients.square()
    before = everything(problem.model)
    first, second = adam_directions(problem, optimizer, normalize=None)
    torch.testing.assert_close(first, mean)
    torch.testing.assert_close(second, square.sqrt())
    assert same(everything(problem.model), before)


def test_by_default_both_have_the_norm_of_the_weights():
    problem, optimizer, _ = trained(2)
    found = adam_directions(problem, optimizer)
    torch.testing.assert_close(found.norms, problem.vector().norm().expand(2), rtol=1e-6, atol=0.0)
    made = adam_directions(problem, optimizer, orthogonal=True)
    assert abs(float(found.cosines[0, 1])) > 0.01 > 1e-14 > abs(float(made.cosines[0, 1]))


def test_an_optimizer_without_moments_is_named():
    problem, _, _ = trained(1)
    sgd = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="has none of"):
        adam_directions(problem, sgd)
