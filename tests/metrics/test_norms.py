import math

import pytest
import torch
from cases import everything, make, normal, same
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.metrics import distance_from_initialisation, frobenius_norms, path_norm, spectral_norms, weight_norm
from landscape.models.vit import vit
from landscape.problem import Problem


def convolutional() -> Problem:
    """Padding, stride, groups, a bias, batch norm with statistics of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, stride=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 2, groups=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16, 3),
        ).double()
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2)
        nn.init.normal_(model[1].weight)
        nn.init.normal_(model[1].bias)
    return Problem(model.eval(), F.cross_entropy, [(normal(6, 2, 6, 6), torch.arange(6) % 3)])


def dense_norm(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The largest singular value of a linear layer's matrix, written out on unit images."""
    units = torch.eye(math.prod(shape)).double().view(-1, *shape)
    return torch.linalg.matrix_norm((layer(units) - layer(torch.zeros_like(units))).flatten(1), 2).detach()


def test_spectral_norms_of_convolutions_are_those_of_the_map_of_images() -> None:
    problem = convolutional()
    first, second, last = (problem.model[i] for i in (0, 3, 6))
    norms = [dense_norm(first, (2, 6, 6)), dense_norm(second, (4, 3, 3)), dense_norm(last, (16,))]
    found = spectral_norms(problem)
    assert abs(found.value.item() - 2 * sum(n.log().item() for n in norms)) <= found.stderr < 2e-3
    assert found.details["sum"] == pytest.approx(sum(n.item() ** 2 for n in norms), rel=1e-4)
    assert found.details["layers"] == 3


def test_norms_of_reshaped_matrices() -> None:
    problem = convolutional()
    matrices = [problem.model[i].weight.detach().flatten(1) for i in (0, 3, 6)]
    tops = [torch.linalg.matrix_norm(W, 2) for W in matrices]
    found = spectral_norms(problem, convolution="matrix")
    assert found.value.item() == pytest.approx(2 * sum(n.log().item() for n in tops), rel=1e-9)
    ranks = sum(float((W.norm() / n) ** 2) for W, n in zip(matrices, tops, strict=True))
    assert found.details["stable_rank"] == pytest.approx(ranks, rel=1e-9)
    expected = 2 * sum(W.norm().log().item() for W in matrices)
    assert frobenius_norms(problem).value.item() == pytest.approx(expected, rel=1e-12)


def test_a_rescaling_of_one_layer_against_the_next_leaves_products_and_moves_the_norm() -> None:
    problem = convolutional()
    before = [metric(problem).value for metric in (spectral_norms, frobenius_norms, weight_norm)]
    with torch.no_grad():
        problem.model[3].weight.mul_(5)
        problem.model[6].weight.div_(5)
    after = [metric(problem).value for metric in (spectral_norms, frobenius_norms, weight_norm)]
    assert torch.allclose(torch.stack(before[:2]), torch.stack(after[:2]), rtol=1e-9)
    assert after[2] > 1.1 * before[2]


@pytest.mark.parametrize("name", ["attention", "lstm", "parametrized", "tied", "mapping"])
def test_layers_of_every_kind_are_found_and_nothing_is_left_behind(name: str) -> None:
    problem = make(name).problem()
    before = everything(problem.model)
    layers = {"attention": 4, "lstm": 3, "parametrized": 2, "tied": 2, "mapping": 1}
    assert spectral_norms(problem).details["layers"] == layers[name]
    assert same(everything(problem.model), before)


def test_hooks_go_when_a_pass_fails() -> None:
    problem = convolutional()
    broken = Problem(problem.model, lambda z, t: z.sum() * float("nan"), problem.data)
    with pytest.raises(ValueError, match="the loss is nan"):
        spectral_norms(broken)
    assert all(not module._forward_pre_hooks for module in problem.model.modules())


def test_distance_from_initialisation() -> None:
    problem = make("mlp").problem()
    initial = problem.vector() + 0.5
    assert distance_from_initialisation(problem, initial=initial).value.item() == pytest.approx(0.5 * problem.size**0.5)
    with pytest.raises(ValueError, match="initial must be"):
        distance_from_initialisation(problem, initial=initial[:-1])


def test_the_path_norm_adds_up_all_paths_by_hand() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    problem = Problem(model, F.cross_entropy, [(normal(5, 3), torch.arange(5) % 2)])
    W1, b1, W2, b2 = (p.detach() for p in model.parameters())
    paths = sum(float(W1[j, i] * W2[k, j]) ** 2 for i in range(3) for j in range(4) for k in range(2))
    paths += sum(float(b1[j] * W2[k, j]) ** 2 for j in range(4) for k in range(2)) + float(b2.square().sum())
    assert path_norm(problem).value.item() == pytest.approx(paths**0.5, rel=1e-12)


def test_the_path_norm_squares_a_tied_weight_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False)).double()
    model[2].weight = model[0].weight
    squares = model[0].weight.detach().square()
    found = path_norm(Problem(model, F.cross_entropy, [(normal(5, 3), torch.arange(5) % 3)]))
    assert found.value.item() == pytest.approx((squares @ squares).sum().sqrt().item(), rel=1e-12)


def test_the_path_norm_sees_batch_norm_as_the_scale_and_shift_that_it_is() -> None:
    problem = convolutional()
    folded = nn.Sequential(*(layer for i, layer in enumerate(convolutional().model) if i != 1))
    norm = problem.model[1]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():  # without a bias of its own the convolution's and the norm's shift would be one path
        problem.model[0].bias.zero_()
        folded[0].weight.mul_(scale[:, None, None, None])
        folded[0].bias.copy_(norm.bias - scale * norm.running_mean)
    expected = path_norm(Problem(folded, F.cross_entropy, problem.data)).value
    before = everything(problem.model)
    assert path_norm(problem).value.item() == pytest.approx(expected.item(), rel=1e-9)
    assert same(everything(problem.model), before)


def test_the_path_norm_refuses_what_it_is_not_defined_for() -> None:
    network = vit(dim=4, depth=1, heads=1)
    with pytest.raises(ValueError, match="linear layers, convolutions and batch norms only, got VisionTransformer"):
        path_norm(Problem(network, F.cross_entropy, [(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))]))
    whole = Problem(nn.Linear(2, 2), F.cross_entropy, [(torch.zeros(2, 2).long(), torch.tensor([0, 1]))])
    with pytest.raises(ValueError, match="needs inputs in one tensor of numbers"):
        path_norm(whole)
