import pytest
import torch
from cases import make, normal, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parameters_to_vector

from landscape.vectors import Layout, assign, displaced, filter_norms, flatten, layout_of, normal_like, reject, unit

shapes = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)


def layout(some_shapes) -> Layout:
    names = tuple(f"p{i}" for i in range(len(some_shapes)))
    return Layout(names, tuple(torch.Size(shape) for shape in some_shapes), (True,) * len(names))


@given(shapes)
def test_flatten_and_unflatten_undo_each_other(some_shapes):
    tensors = [normal(*shape, seed=i) if shape else normal(1)[0] for i, shape in enumerate(some_shapes)]
    own = layout(some_shapes)
    w = flatten(tensors)
    assert w.shape == (own.size,)
    for name, tensor, piece in zip(own.names, tensors, own.unflatten(w), strict=True):
        assert piece.shape == tensor.shape
        assert torch.equal(piece, tensor)
        assert torch.equal(w[own.span(name)], tensor.flatten())
    assert torch.equal(flatten(own.unflatten(w)), w)


def test_flatten_is_a_copy_in_the_common_dtype_of_at_least_single_precision():
    a, b = torch.ones(2, dtype=torch.float64), torch.ones(3, dtype=torch.bfloat16)
    flatten([a])[0] = 5
    assert a[0] == 1
    assert flatten([a, b]).dtype == torch.float64
    assert flatten([b]).dtype == flatten([b.half()]).dtype == torch.float32


def test_flatten_follows_torch_and_takes_any_strides():
    parameters = [nn.Parameter(normal(3, 4).T), nn.Parameter(normal(2))]
    w = flatten(parameters)
    assert torch.equal(w, parameters_to_vector([p.contiguous() for p in parameters]))
    assert not w.requires_grad


def test_unflatten_is_differentiable_and_takes_a_column_of_a_block():
    own = layout([(2, 3), ()])
    block = normal(7, 4).requires_grad_()
    pieces = own.unflatten(block.T[1])
    (pieces[0].sum() + 2 * pieces[1]).backward()
    assert block.grad[:, 1].tolist() == [1.0] * 6 + [2.0]
    assert block.grad[:, 0].abs().max() == 0


def test_layout_tells_weights_from_biases_and_norms_and_takes_a_tied_parameter_once():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.MultiheadAttention(4, 2), nn.LayerNorm(4))
    own = layout_of(model)
    weights = [name for name, is_weight in zip(own.names, own.is_weight, strict=True) if is_weight]
    assert weights == ["0.weight", "2.in_proj_weight", "2.out_proj.weight"]
    assert layout_of(make("tied").model).names == ("0.weight", "1.weight", "1.bias")
    assert layout_of(model, ["1.bias", "0.bias"]).names == ("0.bias", "1.bias")


def test_unit_and_reject():
    v, d = normal(9), normal(9, seed=1)
    torch.testing.assert_close(unit(v), v / v.norm(), rtol=1e-15, atol=0)
    assert abs(reject(v, d) @ d) < 1e-14
    torch.testing.assert_close(reject(v, d) + (v @ d) / (d @ d) * d, v, rtol=1e-14, atol=0)
    zero = torch.zeros(9, dtype=torch.float64)
    assert torch.equal(unit(zero), zero)
    assert torch.equal(reject(v, zero), v)


def test_filter_norms_in_a_straight_loop():
    tensors = [normal(3, 2, 2), normal(4, seed=1), normal(0, 5), normal(2, 3, seed=2)]
    expected = []
    for t in tensors:
        for i in range(t.shape[0]):
            expected += [float(t[i].norm())] * t[i].numel()
    found = filter_norms(flatten(tensors), layout([t.shape for t in tensors]))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0)


def test_displaced_puts_back_to_the_bit_also_after_an_error():
    model = make("tied").model
    before = [p.detach().clone() for p in model.parameters()]
    w = flatten(list(model.parameters()))
    e = torch.full_like(w, 1 / 3)

    def fail():
        with displaced(list(model.parameters()), e):
            assert torch.equal(flatten(list(model.parameters())), w + e)
            assert model[0].weight is model[3].weight
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_displaced_puts_back_when_the_vector_does_not_fit():
    parameters = [nn.Parameter(normal(2)), nn.Parameter(normal(3))]
    before = flatten(parameters)
    with pytest.raises(RuntimeError), displaced(parameters, torch.ones(4)):
        pass
    assert torch.equal(flatten(parameters), before)


def test_assign_keeps_the_dtype_and_the_storage():
    p = nn.Parameter(torch.zeros(2, 2, dtype=torch.bfloat16))
    pointer = p.data_ptr()
    assign([p], torch.arange(4.0))
    assert p.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert p.dtype == torch.bfloat16
    assert p.data_ptr() == pointer


def test_a_seed_draws_the_same_normal_numbers_in_every_precision():
    fine = normal_like(torch.empty(20000, dtype=torch.float64), seeded(1))
    coarse = normal_like(torch.empty(20000), seeded(1))
    assert (fine.dtype, coarse.dtype) == (torch.float64, torch.float32)
    assert torch.equal(coarse, fine.float())
    assert abs(fine.mean()) < 4 / 20000**0.5
    assert abs(fine.square().mean() - 1) < 4 * (2 / 20000) ** 0.5
