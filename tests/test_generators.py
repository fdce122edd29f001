"""Every public function that draws refuses a `generator` that is none in one line, whether it draws or not."""

import re
from inspect import signature

import numpy as np
import pytest
import torch
from cases import make
from jaxtyping import config

import landscape as ls
from landscape import linalg
from landscape.interop.cross_check import cross_check

PUBLIC = {
    f"{place}.{name}": function
    for place, found in (
        *((module.__name__, {name: getattr(module, name) for name in module.__all__}) for module in (ls, linalg)),
        ("metrics", {name: getattr(ls.metrics, name) for name in ls.metrics.__all__} | {"cross_check": cross_check}),
        ("METRICS", {**ls.METRICS}),
    )
    for name, function in found.items()
    if callable(function) and (place == "METRICS" or "generator" in signature(function).parameters)
}


@pytest.fixture
def unchecked():
    """As users have it: without the tests' type checker, which would refuse first."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", PUBLIC)
def test_a_wrong_generator_is_refused_in_one_line(name):
    problem = make("mlp").problem()
    direction = problem.gradient()
    known = {"problem": problem, "operator": ls.MatrixOperator(torch.eye(30).double()), "d2": direction.flip(0)}
    known |= dict.fromkeys(("direction", "d1", "other", "end", "initial"), direction) | {"sigmas": [0.1], "m": [8]}
    known |= {"shift": 1.0, "above": 0.5, "every": 1}
    asked = [each for each in signature(PUBLIC[name]).parameters.values() if each.default is each.empty]
    args = [known[each.name] for each in asked if each.kind is each.POSITIONAL_OR_KEYWORD]
    settings = {each.name: known[each.name] for each in asked if each.kind is each.KEYWORD_ONLY}
    for wrong, kind, seed in ((7, "int", 7), (np.random.default_rng(3), "Generator", 0), ("cpu", "str", 0)):
        said = f"generator must be a torch.Generator or None, got {kind}; pass torch.Generator().manual_seed({seed})"
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            PUBLIC[name](*args, **settings, generator=wrong)
