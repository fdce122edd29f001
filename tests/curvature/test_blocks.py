import re

import oracles
import pytest
import torch
from cases import make

from landscape.curvature import hessian_blocks
from landscape.curvature.blocks import direct_sum, grouped, layers
from landscape.problem import Problem


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


def test_blocks_by_module_gather_what_shares_the_first_parts_of_its_name():
    problem = make("attention").problem()
    first = ["first.in_proj_weight", "first.in_proj_bias", "first.out_proj.weight", "first.out_proj.bias"]
    assert grouped(problem, "module") == {
        "first": first,
        "qkv": ["qkv.weight", "qkv.bias"],
        "head": ["head.weight", "head.bias"],
    }
    assert list(grouped(problem, "module", depth=2)) == list(layers(problem))


def test_blocks_by_pattern_may_overlap_and_keep_the_order_of_w():
    case = make("attention")
    by = {"biases": ["head.bias", "*_bias"], "first": "first.*", "whole": "*"}
    assert grouped(case.problem(), by)["biases"] == ["first.in_proj_bias", "head.bias"]
    dense, layout = oracles.hessian(case), case.problem().layout
    for name, block in hessian_blocks(case.problem(), by).items():
        names = grouped(case.problem(), by)[name]
        index = torch.cat([torch.arange(layout.size)[layout.span(own)] for own in names])
        torch.testing.assert_close(block.dense(), dense[index][:, index], rtol=1e-9, atol=1e-11 * float(dense.norm()))


@pytest.mark.parametrize("name", ["mlp", "conv_bn", "tied", "frozen_unused", "twice", "parametrized", "mapping"])
def test_the_direct_sum_is_the_dense_blocks_side_by_side(name):
    problem = make(name).problem()
    by = {**layers(problem), "whole": "*"}
    expected = torch.block_diag(*(block.dense() for block in hessian_blocks(problem, by).values()))
    found = direct_sum(problem, grouped(problem, by)).dense(chunk=1000)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * float(expected.norm()))


def test_a_pass_runs_the_network_as_often_for_many_blocks_as_for_one():
    case, calls, runs = make("mlp"), [], []

    def criterion(z, t):
        calls.append(len(t))
        return case.criterion(z, t)

    problem = Problem(case.model, criterion, case.batches)
    problem.loss()  # the first pass of all looks at the model
    calls.clear()
    for by in ({"whole": "*"}, {name: name for name in problem.layout.names}):
        blocks = direct_sum(problem, grouped(problem, by))
        blocks.matvec(torch.ones(blocks.shape[0], dtype=torch.float64))
        runs.append(calls.copy())
        calls.clear()
    assert len(problem.layout.names) == 4
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("by", "depth", "message"),
    [
        ("head", 1, "by must be one of 'layer' | 'module', got 'head'"),
        ("module", 0, "depth must be an integer at least 1, got 0"),
        ({}, 1, "by must name at least one block, got an empty mapping"),
        ({"a": []}, 1, "block 'a' must have at least one pattern, got none"),
        ({"a": ["0.*", "9.*"]}, 1, "block 'a': '9.*' matches no chosen parameter; there are ['0.weight', '0.bias',"),
    ],
)
def test_blocks_that_do_not_exist(by, depth, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        hessian_blocks(make("mlp").problem(), by=by, depth=depth)
