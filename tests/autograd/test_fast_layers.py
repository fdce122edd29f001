"""Second derivatives of convolutions and linear layers against torch's own."""

from functools import partial

import oracles
import pytest
import torch
from cases import normal
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from landscape.autograd.fast_layers import BilinearLayers
from landscape.autograd.fast_layers.maps import Convolution, Linear, bilinear
from landscape.autograd.fast_layers.transposed import interleaved
from landscape.curvature import ggn, hessian
from landscape.problem import Problem

IMAGES = {1: (2, 4, 9), 2: (2, 4, 9, 7), 3: (2, 4, 5, 4, 6)}
SETTINGS = {
    "plain": {},
    "stride": {"stride": 2, "padding": 1},
    "dilation": {"dilation": 2, "padding": 2},
    "groups": {"groups": 2, "padding": 1},
    "no_bias": {"bias": False},
    "same": {"padding": "same"},
    "circular": {"padding": 1, "padding_mode": "circular"},
}


class Counted(Convolution):
    """A convolution that counts how often it is asked for its derivative by W."""

    count = 0

    def by_weight(self, g, x, weight):
        Counted.count += 1
        return super().by_weight(g, x, weight)


def curved(*layers):
    """Layers with something nonlinear between them, in float64, ending in one number a sample."""
    torch.manual_seed(0)
    smooth = [part for layer in layers for part in (layer, nn.Tanh())]
    return nn.Sequential(*smooth, nn.Flatten()).double()


def torchs_own(model, x, w=None):
    """The Hessian of mean(model(x)²) by torch alone, dense."""
    own = dict(model.named_parameters())
    w = torch.cat([p.detach().reshape(-1) for p in own.values() if p.requires_grad])

    def loss(w):
        names = [name for name, p in own.items() if p.requires_grad]
        pieces = w.split([own[name].numel() for name in names])
        state = {name: piece.view_as(own[name]) for name, piece in zip(names, pieces, strict=True)}
        return torch.func.functional_call(model, state, (x,)).square().mean()

    return torch.autograd.functional.hessian(loss, w)


def problem_of(model, x):
    return Problem(model, lambda z, _: z.square().mean(), (x, torch.zeros(len(x))))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", list(SETTINGS))
def test_convolutions_of_every_kind_have_torchs_hessian(axes, name):
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    model = curved(layer(4, 2, 3, **SETTINGS[name]), layer(2, 2, 1))
    x = normal(*IMAGES[axes])
    assert oracles.relative(hessian(problem_of(model, x)).dense(), torchs_own(model, x)) < 1e-12


def test_a_sequence_of_vectors_through_linear_layers_has_torchs_hessian():
    model, x = curved(nn.Linear(3, 4), nn.Linear(4, 2, bias=False)), normal(2, 5, 3)
    assert oracles.relative(hessian(problem_of(model, x)).dense(), torchs_own(model, x)) < 1e-12


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_frozen_parts_of_layers_take_no_part(frozen):
    model, x = curved(nn.Conv2d(4, 2, 3), nn.Conv2d(2, 2, 2)), normal(2, 4, 5, 5)
    for name, p in model.named_parameters():
        p.requires_grad_(not name.endswith(frozen))
    assert oracles.relative(hessian(problem_of(model, x)).dense(), torchs_own(model, x)) < 1e-12


def test_a_weight_that_is_no_view_of_w_keeps_the_value_of_its_gradient():
    model, x = curved(weight_norm(nn.Conv2d(4, 2, 3)), weight_norm(nn.Linear(3, 2))), normal(2, 4, 5, 5)
    with_loss = problem_of(model, x)
    w, step = with_loss.vector(), 1e-5
    moves = step * torch.eye(with_loss.size, dtype=w.dtype)
    differences = torch.stack([with_loss.gradient(w + e) - with_loss.gradient(w - e) for e in moves]) / (2 * step)
    assert oracles.relative(hessian(with_loss).dense(), differences) < 1e-7


def test_one_weight_in_two_layers():
    first, second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    second.weight = first.weight
    model, x = curved(first, second), normal(2, 3, 4, 4)
    with_loss = problem_of(model, x)
    w, e = with_loss.vector(), 1e-5 * normal(with_loss.size)
    difference = (with_loss.gradient(w + e) - with_loss.gradient(w - e)) / 2
    assert oracles.relative(hessian(with_loss) @ e, difference) < 1e-7


def test_derivatives_by_views_of_w_are_never_computed_before_a_vector_asks(monkeypatch):
    monkeypatch.setattr("landscape.autograd.fast_layers.maps.Convolution", Counted)
    w = normal(18).requires_grad_()
    for weight, count in ((w.view(1, 2, 3, 3), 0), ((2 * w).view(1, 2, 3, 3), 1)):
        Counted.count = 0
        x = normal(1, 2, 4, 4)
        with BilinearLayers([w]):
            y = F.conv2d(x.requires_grad_(), weight)
        torch.autograd.grad(y.square().sum(), w, create_graph=True)
        assert Counted.count == count


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(
    "settings", [(3, 1, 1, 1), (3, 2, 1, 1), (2, 2, 0, 1), (5, 3, 2, 1), (3, 2, 0, 2), (1, 1, 1, 1)]
)
def test_small_images_in_single_precision_take_the_turned_kernel(size, settings):
    kernel, *others = settings
    x, weight = normal(3, 4, size, size).float().requires_grad_(), normal(5, 4, kernel, kernel, seed=1).float()
    y = F.conv2d(x, weight, None, *others)
    g = torch.randn_like(y)
    layer = Convolution(*((value, value) for value in others), 1)
    assert oracles.relative(layer.by_input(g, x, weight), torch.autograd.grad(y, x, g)[0]) < 1e-6


@pytest.mark.parametrize("channels", [3, 16])
def test_products_in_single_precision_do_not_depend_on_the_order_in_memory(channels):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 3, 2), nn.Tanh(), nn.Flatten())
    )
    x = torch.randn(6, channels, 8, 8)
    v = torch.randn(problem_of(model, x).size)
    exact = hessian(problem_of(model.double(), x.double())) @ v.double()
    for order in (torch.contiguous_format, torch.channels_last):
        found = hessian(problem_of(model.float(), x.to(memory_format=order))) @ v
        assert oracles.relative(found.double(), exact) < 1e-5


def test_under_autocast_layers_are_left_to_torch():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(5, 3)

    def forward(model, x):
        with torch.autocast("cpu", torch.bfloat16):
            return model(x).float()

    mixed = Problem(model, lambda z, _: z.square().mean(), (x, torch.zeros(5)), forward=forward)
    v = torch.randn(mixed.size)
    assert oracles.relative(hessian(mixed) @ v, hessian(problem_of(model, x)) @ v) < 0.05


def test_vectors_at_once_by_vmap_are_the_same():
    model, x = curved(nn.Conv2d(4, 2, 3), nn.Flatten(1), nn.Linear(18, 2)), normal(2, 4, 5, 5)
    V = normal(problem_of(model, x).size, 5)
    for operator in (hessian, ggn):
        at_once, one_by_one = operator(problem_of(model, x), chunk=3), operator(problem_of(model, x))
        assert oracles.relative(at_once @ V, one_by_one @ V) < 1e-12


def test_the_graph_of_jacobian_products_gives_the_dense_gauss_newton_matrix():
    model, x = curved(nn.Conv2d(4, 2, 3), nn.Flatten(1), nn.Linear(18, 2)), normal(2, 4, 5, 5)
    own = dict(model.named_parameters())

    def outputs(*pieces):
        return torch.func.functional_call(model, dict(zip(own, pieces, strict=True)), (x,)).reshape(-1)

    blocks = torch.autograd.functional.jacobian(outputs, tuple(p.detach() for p in own.values()))
    J = torch.cat([block.flatten(1) for block in blocks], dim=1)
    assert oracles.relative(ggn(problem_of(model, x)).dense(), J.T @ J * 2 / len(J)) < 1e-12


def test_adjoints_are_adjoint():
    x, weight, bias = normal(2, 3, 6), normal(4, 6, seed=1), normal(4, seed=2)
    layer, *_ = bilinear(F.linear, x, weight, bias)
    assert isinstance(layer, Linear)
    g = normal(2, 3, 4, seed=3)
    inner = (g * layer.forward(x, weight, None)).sum()
    assert torch.allclose((layer.by_input(g, x, weight) * x).sum(), inner)
    assert torch.allclose((layer.by_weight(g, x, weight) * weight).sum(), inner)
    assert torch.allclose((layer.by_bias(g) * bias).sum(), (g * layer.spread(bias)).sum())


@pytest.mark.parametrize("settings", [(3, 2, 1), (2, 2, 0), (5, 3, 2), (1, 2, 0), (3, 2, 0), (4, 3, 3)])
@pytest.mark.parametrize("sizes", [(7, 8), (9, 12)])
def test_the_adjoint_of_a_strided_convolution_interleaved_is_the_adjoint(settings, sizes):
    kernel, stride, padding = settings
    x, weight = normal(3, 4, *sizes).requires_grad_(), normal(5, 4, kernel, kernel, seed=1)
    y = F.conv2d(x, weight, None, stride, padding)
    g = normal(*y.shape, seed=2)
    found = interleaved(g, sizes, weight, (stride, stride), (padding, padding))
    assert oracles.relative(found, torch.autograd.grad(y, x, g)[0]) < 1e-13


IN_COLUMNS = {
    "few channels": lambda: (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, 1, 1)),
    "one to many": lambda: (nn.Conv2d(1, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 12, 3, 2, 1)),
    "few to many": lambda: (nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 20, 3, 2), nn.ReLU(), nn.Conv2d(20, 9, 2)),
    "groups": lambda: (nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3, 2, groups=3), nn.Conv2d(12, 6, 1)),
    "each channel": lambda: (nn.Conv2d(1, 10, 3), nn.ReLU(), nn.Conv2d(10, 20, 3, groups=10, bias=False)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", IN_COLUMNS)
@pytest.mark.parametrize("operator", [hessian, ggn])
def test_columns_stacked_by_the_layers_are_right_in_every_order_in_memory(operator, name, dtype):
    torch.manual_seed(0)
    model, x = nn.Sequential(*IN_COLUMNS[name](), nn.Tanh(), nn.Flatten()), torch.randn(5, 1, 8, 8)
    V = torch.randn(problem_of(model, x).size, 5)
    together = operator(problem_of(model.to(dtype), x.to(dtype)), chunk=5, verify=False)
    found = together @ V.to(dtype)
    assert together.chunk == 5  # none was refused
    exact = operator(problem_of(model.double(), x.double()), chunk=1, mode="central_differences") @ V.double()
    assert oracles.relative(found.double(), exact) < (1e-5 if dtype == torch.float32 else 1e-7)


@pytest.mark.parametrize("inplace", [False, True])
def test_rectified_units_have_torchs_derivatives(inplace):
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(inplace), nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten()).double()
    x = normal(4, 2, 5, 5)
    H = hessian(problem_of(model, x), mode="double_backward", verify=False)
    assert oracles.relative(H.dense(), torchs_own(model, x)) < 1e-12


def test_a_derivative_inside_goes_through_rectified_units():
    """The mean of |∂z/∂x|² between layers that are torch's own, so that the units do not stand aside."""
    torch.manual_seed(0)
    conv = partial(nn.Conv1d, kernel_size=3, padding="same")
    model = nn.Sequential(conv(1, 4), nn.Tanh(), conv(4, 4), nn.ReLU(), conv(4, 1), nn.Tanh()).double()

    def slope(model, x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(model(x).sum(), x, create_graph=True)[0]

    data = (normal(5, 1, 6), torch.zeros(5))
    inside = Problem(model, lambda z, _: z.square().mean(), data, forward=slope)

    def loss(w):
        state = dict(zip(inside.layout.names, inside.layout.unflatten(w), strict=True))
        return slope(lambda x: torch.func.functional_call(model, state, (x,)), data[0]).square().mean()

    exact = torch.autograd.functional.hessian(loss, inside.vector())
    assert oracles.relative(hessian(inside, mode="double_backward", verify=False).dense(), exact) < 1e-12
