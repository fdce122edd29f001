"""Attention as different libraries lay it out: the same function must give the same pairs, whatever its names."""

from collections.abc import Callable

import pytest
import torch
from cases import normal
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.metrics import geodesic, worst_case_gap
from landscape.metrics.invariant_pairs import attention_pairs
from landscape.metrics.low_rank_pairs import pairs_found
from landscape.problem import Problem

WIDTH, HEADS = 4, 2


def linear(seed: int, rows: int = WIDTH) -> nn.Linear:
    layer = nn.Linear(WIDTH, rows).double()
    layer.weight.data, layer.bias.data = normal(rows, WIDTH, seed=seed), 0.3 * normal(rows, seed=10 + seed)
    return layer


def joined(*layers: nn.Linear) -> nn.Linear:
    layer = nn.Linear(WIDTH, 3 * WIDTH).double()
    layer.weight.data = torch.cat([part.weight.data for part in layers])
    layer.bias.data = torch.cat([part.bias.data for part in layers])
    return layer


class Conv1D(nn.Module):
    """A linear layer that keeps its matrix by input, as GPT-2's."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(layer.weight.data.T.clone()), nn.Parameter(layer.bias.data)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """Query, key and value as layers or in one, by the names of a library."""

    def __init__(self, inner: dict[str, nn.Module], outer: dict[str, nn.Module], heads: str) -> None:
        super().__init__()
        setattr(self, heads, HEADS)
        self.inner, self.outer = list(inner), list(outer)
        for name, layer in {**inner, **outer}.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.cat([getattr(self, name)(x) for name in self.inner], dim=-1)
        q, k, v = self.positioned(*rows.split([WIDTH, *[(rows.shape[-1] - WIDTH) // 2] * 2], dim=-1))
        heads = [t.unflatten(-1, (-1, WIDTH // HEADS)).transpose(1, 2) for t in (q, k, v)]
        mixed = F.scaled_dot_product_attention(*(t.expand(-1, HEADS, -1, -1) for t in heads)).transpose(1, 2).flatten(2)
        return getattr(self, self.outer[0])(mixed) if self.outer else mixed

    def positioned(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v


class Rotary(Attention):
    """Queries and keys turned by an angle that grows with the position."""

    def positioned(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        angle = torch.arange(q.shape[1]).double()[:, None]
        turned = [t * angle.cos() + t.roll(1, -1) * angle.sin() for t in (q, k)]
        return turned[0], turned[1], v


class Bert(nn.Module):
    """The output beside the attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Module()
        layers = {name: linear(seed) for seed, name in enumerate(("query", "key", "value"))}
        self.attention.self = Attention(layers, {}, "num_attention_heads")
        self.attention.output = nn.Module()
        self.attention.output.dense = linear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention.output.dense(self.attention.self(x))


def separate(names: tuple[str, ...], heads: str = "num_heads", kind: type[Attention] = Attention) -> nn.Module:
    *inner, outer = names
    return kind({name: linear(seed) for seed, name in enumerate(inner)}, {outer: linear(3)}, heads)


def of_torch() -> nn.Module:
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
    fused, out = joined(linear(0), linear(1), linear(2)), linear(3)
    module.in_proj_weight.data, module.in_proj_bias.data = fused.weight.data, fused.bias.data
    module.out_proj.weight.data, module.out_proj.bias.data = out.weight.data, out.bias.data
    return module


LAYOUTS: dict[str, Callable[[], nn.Module]] = {
    "torch": of_torch,
    "bert": Bert,
    "clip": lambda: separate(("q_proj", "k_proj", "v_proj", "out_proj")),
    "vit": lambda: separate(("q_proj", "k_proj", "v_proj", "o_proj"), "num_attention_heads"),
    "distilbert": lambda: separate(("q_lin", "k_lin", "v_lin", "out_lin"), "n_heads"),
    "t5": lambda: separate(("q", "k", "v", "o"), "n_heads"),
    "gpt2": lambda: Attention(
        {"c_attn": Conv1D(joined(linear(0), linear(1), linear(2)))}, {"c_proj": Conv1D(linear(3))}, "num_heads"
    ),
    "timm": lambda: Attention({"qkv": joined(linear(0), linear(1), linear(2))}, {"proj": linear(3)}, "num_heads"),
    "bundled": lambda: Attention(
        {"query_key_value": joined(linear(0), linear(1), linear(2))}, {"output": linear(3)}, "heads"
    ),
}


def problem(module: nn.Module) -> Problem:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        return net(x, x, x)[0] if isinstance(net, nn.MultiheadAttention) else net(x)

    return Problem(module, F.mse_loss, [(normal(12, 3, 4, seed=6), normal(12, 3, 4, seed=7))], forward=forward)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_function_has_one_geodesic_sharpness_however_its_weights_are_laid_out(layout: str) -> None:
    expected, found = (geodesic(problem(LAYOUTS[name]()), rho=0.2, steps=3) for name in ("torch", layout))
    assert found.details["pairs"] == 4  # two a head
    assert found.value.item() == pytest.approx(expected.value.item(), rel=1e-9)
    adaptive = worst_case_gap(problem(LAYOUTS[layout]()), rho=0.2, steps=3, geometry="adaptive").value
    assert abs(found.value / adaptive - 1) > 0.01


def test_rotary_embeddings_leave_values_and_outputs_as_the_only_pair() -> None:
    rotary = problem(separate(("q_proj", "k_proj", "v_proj", "o_proj"), kind=Rotary))
    whole = attention_pairs(problem(LAYOUTS["vit"]()))
    (left,) = attention_pairs(rotary)
    assert torch.equal(left.G, whole[1].G)
    assert torch.equal(left.H, whole[1].H)


def test_shared_keys_and_frozen_parts_are_left_alone() -> None:
    shared = {"q_proj": linear(0), "k_proj": linear(1, 2), "v_proj": linear(2, 2)}
    assert attention_pairs(problem(Attention(shared, {"o_proj": linear(3)}, "num_heads"))) == []
    frozen = LAYOUTS["clip"]()
    frozen.k_proj.requires_grad_(False)
    assert attention_pairs(problem(frozen)) == []


class Adapted(nn.Module):
    """W x + B A x with B A in the layout of PEFT, or between them what breaks the symmetry."""

    def __init__(self, turn: Tensor, between: nn.Module | None = None, names: tuple[str, str] = ("lora_A", "lora_B")):
        super().__init__()
        self.base = linear(0).requires_grad_(False)
        self.between, (first, second) = between or nn.Identity(), names
        A, B = nn.Linear(WIDTH, 2, bias=False).double(), nn.Linear(2, WIDTH, bias=False).double()
        A.weight.data, B.weight.data = (
            turn @ normal(2, WIDTH, seed=1),
            normal(WIDTH, 2, seed=2) @ torch.linalg.inv(turn),
        )
        self.adapters = nn.ModuleDict({first: nn.ModuleDict({"default": A}), second: nn.ModuleDict({"default": B})})

    def forward(self, x: Tensor) -> Tensor:
        A, B = (each["default"] for each in self.adapters.values())
        return self.base(x) + B(self.between(A(x)))


TURN = torch.tensor([[2.0, 0.5], [-0.3, 0.4]]).double()


@pytest.mark.parametrize("names", [("lora_A", "lora_B"), ("lora_down", "lora_up"), ("A", "B")])
def test_the_two_matrices_of_lora_are_found_by_name(names: tuple[str, str]) -> None:
    first, second = (problem(Adapted(turn, names=names)) for turn in (torch.eye(2).double(), TURN))
    found = [geodesic(each, rho=0.1, metric=metric) for metric in ("mix", "inv") for each in (first, second)]
    assert [each.details["pairs"] for each in found] == [1] * 4
    assert found[0].value.item() == pytest.approx(found[1].value.item(), rel=1e-3)
    assert found[2].value.item() == pytest.approx(found[3].value.item(), rel=1e-3)
    adaptive = [worst_case_gap(each, rho=0.1, geometry="adaptive").value for each in (first, second)]
    assert abs(adaptive[1] / adaptive[0] - 1) > 0.05


def test_pairs_of_low_rank_are_tried_and_fresh_ones_left_out() -> None:
    assert pairs_found(problem(Adapted(TURN, between=nn.Tanh()))) == []
    fresh = Adapted(TURN)
    nn.init.zeros_(fresh.adapters["lora_B"]["default"].weight)
    assert pairs_found(problem(fresh)) == []
    assert geodesic(problem(fresh), rho=0.1, relax=0.1).details["pairs"] == 1


def test_linear_layers_in_a_row_are_a_pair_with_the_inner_bias() -> None:
    inner, outer = nn.Linear(WIDTH, 2).double(), nn.Linear(2, WIDTH).double()
    (pair,) = pairs_found(problem(nn.Sequential(nn.Sequential(inner, outer), nn.Tanh())))
    assert (tuple(pair.G.shape), tuple(pair.H.shape)) == ((1, WIDTH, 2), (1, WIDTH + 1, 2))
    assert pairs_found(problem(nn.Sequential(inner, nn.Tanh(), outer))) == []
    wide = nn.Sequential(nn.Linear(WIDTH, 9).double(), nn.Linear(9, WIDTH).double())
    assert pairs_found(problem(wide)) == []  # 9 columns of 4 rows are dependent: no low rank


def test_relaxed_grams_move_the_value_by_as_much_as_they_change() -> None:
    at = problem(Adapted(TURN))
    plain, little, much = (geodesic(at, rho=0.05, steps=1, relax=relax).value.item() for relax in (0.0, 1e-6, 0.3))
    assert little == pytest.approx(plain, rel=1e-4)
    assert abs(much / plain - 1) > 1e-2
