"""Parameters of no entries, normalisation layers of other libraries, and calls inside torch.inference_mode()."""

import pytest
import torch
from cases import make
from torch import nn
from torch.nn import functional as F

import landscape as ls
from landscape.metrics import margin, relative_flatness, renyi
from landscape.problem import Problem
from landscape.slices import random_directions, slice_1d
from landscape.vectors import filter_norms, layout_of

# ------------------------------------------------------- parameters of no entries


class Net(nn.Module):
    def __init__(self, empty: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)
        if empty:
            self.weight, self.scale = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.zeros(0))
            self.deep, self.wide = nn.Parameter(torch.zeros(0, 3, 0)), nn.Parameter(torch.zeros(4, 0))

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


@pytest.fixture(scope="module")
def pair() -> tuple[Problem, Problem]:
    """The same function without and with parameters of no entries."""
    torch.manual_seed(0)
    plain, full = Net(False).double(), Net(True).double()
    full.load_state_dict(plain.state_dict(), strict=False)
    data = [(torch.randn(12, 4).double(), torch.randint(3, (12,)))]
    one, two = (Problem(net, F.cross_entropy, data) for net in (plain, full))
    assert one.size == two.size
    assert len(two.layout.names) == 8
    return one, two


@pytest.mark.parametrize("name", [*ls.METRICS])
def test_metrics_do_not_see_them(name: str, pair: tuple[Problem, Problem]) -> None:
    one, two = (ls.METRICS[name](problem).value for problem in pair)
    torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("normalize", ["filter", "layer", "model", None])
@pytest.mark.parametrize("ignore", ["bias_norm", None])
def test_directions_do_not_see_them(normalize: str | None, ignore: str | None, pair: tuple[Problem, Problem]) -> None:
    one, two = (random_directions(problem, normalize=normalize, ignore=ignore)[0] for problem in pair)
    assert torch.equal(one, two)
    assert torch.equal(*(filter_norms(problem.vector(), problem.layout) for problem in pair))


def test_renyi_and_flatness_by_layer_do_not_see_them(pair: tuple[Problem, Problem]) -> None:
    for metric in (renyi, relative_flatness):
        one, two = (metric(problem, by="layer").value for problem in pair)
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------ normalisation layers


class Scale(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))


class LlamaRMSNorm(Scale):
    pass


class FrozenBatchNorm2d(Scale):
    pass


class EvoNorm2dS0(Scale):
    pass


class ConvNextLayerNorm(nn.LayerNorm):
    pass


class BatchNormAct2d(nn.BatchNorm2d):
    pass


class NormedLinear(Scale):
    pass


class NormalHead(Scale):
    pass


class QKNorm(nn.Module):
    """A layer that holds norms, and a projection of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.projection, self.inner = nn.Parameter(torch.ones(2, 2)), LlamaRMSNorm(3)


@pytest.mark.parametrize(
    ("module", "norms"),
    [
        *[(kind(4), ["weight", "bias"]) for kind in (nn.BatchNorm1d, nn.LayerNorm, nn.SyncBatchNorm, BatchNormAct2d)],
        (nn.InstanceNorm2d(4, affine=True), ["weight", "bias"]),
        (nn.GroupNorm(2, 4), ["weight", "bias"]),
        (nn.LayerNorm((2, 3)), ["weight", "bias"]),  # scales with two axes
        (ConvNextLayerNorm((2, 3)), ["weight", "bias"]),
        *[(kind(4), ["weight"]) for kind in (nn.RMSNorm, LlamaRMSNorm, FrozenBatchNorm2d, EvoNorm2dS0)],
        *[(kind(4, 3), []) for kind in (NormedLinear, NormalHead, Scale, LlamaRMSNorm)],
        *[(kind(4), []) for kind in (NormedLinear, NormalHead, Scale)],
        (QKNorm(), ["inner.weight"]),
    ],
)
def test_norms_are_told_by_class(module: nn.Module, norms: list[str]) -> None:
    layout = layout_of(module)
    assert [name for name, is_norm in zip(layout.names, layout.is_norm, strict=True) if is_norm] == norms
    assert [w for w, n in zip(layout.is_weight, layout.is_norm, strict=True) if w and n] == []


def test_a_normed_linear_moves_as_weights_do() -> None:
    """What SAM-ON perturbs and ASAM scales hangs on it."""
    layouts = [layout_of(kind(4, 3)) for kind in (NormedLinear, Scale)]
    assert [own.is_weight for own in layouts] == [(True,), (True,)]


# ----------------------------------------------------------------- inference mode


@pytest.mark.parametrize("name", [*ls.METRICS, "margin"])
def test_metrics_are_the_same_inside_inference_mode(name: str) -> None:
    problem = make("mlp").problem()
    metric = {**ls.METRICS, "margin": margin}[name]
    outside = metric(problem)
    with torch.inference_mode():
        inside = metric(problem)
    assert torch.equal(inside.value, outside.value)
    assert not inside.value.is_inference()


def test_analysis_and_slices_are_the_same_inside_inference_mode() -> None:
    problem = make("mlp").problem()
    names = ["m_sharpness", "eigenvector_alignment", "renyi"]
    outside = ls.analyze(problem, names, progress=False)
    direction = random_directions(problem)[0]
    line = slice_1d(problem, direction, (-1.0, 1.0, 3), progress=False)
    with torch.inference_mode():
        inside = ls.analyze(problem, names, progress=False)
        inner = random_directions(problem)[0]
        again = slice_1d(problem, inner, (-1.0, 1.0, 3), progress=False)
    assert all(torch.equal(inside[name].value, outside[name].value) for name in names)
    assert torch.equal(inner, direction)
    torch.testing.assert_close(again.loss["train"], line.loss["train"], rtol=1e-12, atol=0.0)
    assert torch.equal(ls.hessian(problem) @ inner, ls.hessian(problem) @ direction)  # made there, used here
