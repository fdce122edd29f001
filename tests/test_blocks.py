import oracles
import pytest
import torch
from cases import make

from landscape.curvature import hessian_blocks
from landscape.curvature.blocks import layers


@pytest.mark.parametrize("name", ["mlp", "conv_bn", "tied", "frozen_unused", "twice", "parametrized"])
def test_blocks_are_the_diagonal_blocks_of_the_dense_hessian_in_its_order(name):
    case = make(name)
    blocks = hessian_blocks(case.problem())
    dense, start = oracles.hessian(case), 0
    for block in blocks.values():
        stop = start + block.shape[0]
        expected = dense[start:stop, start:stop]
        torch.testing.assert_close(block.dense(), expected, rtol=1e-9, atol=1e-11 * float(dense.norm()))
        start = stop
    assert start == len(dense)


def test_blocks_are_named_after_the_modules_that_own_parameters():
    assert list(hessian_blocks(make("conv_bn").problem())) == ["0", "1", "4", "5"]
    assert list(hessian_blocks(make("twice").problem())) == ["", "layer"]
    assert layers(make("mlp").problem(parameters=["2.weight"])) == {"2": ["2.weight"]}


def test_only_layers_are_known():
    with pytest.raises(ValueError, match="by must be one of 'layer', got 'head'"):
        hessian_blocks(make("mlp").problem(), by="head")
