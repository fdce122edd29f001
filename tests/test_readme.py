import re
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import make

README, CONTRIBUTING = ((Path(__file__).parents[1] / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
def test_the_examples_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        for block in blocks:
            exec(block, scope)
    assert len(blocks) == 2
    assert scope["surface"].loss["train"].shape == (21, 21)  # type: ignore[attr-defined]
    assert len(blocks[0].strip().splitlines()) <= 17


def test_the_examples_of_contributing_run() -> None:
    from landscape.metrics import spectral
    from landscape.slices.directions import between_models
    from landscape.training.rules import balls

    scope: dict[str, Any] = vars(spectral) | vars(balls) | vars(between_models)  # "imports from the file next door"
    exec("\n".join(re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)), scope)
    problem = make("mlp").problem()
    w, g = problem.vector(), problem.gradient()
    assert scope["largest_weight"](problem).value == w.abs().max()
    e, _ = scope["sign_step"](0.5).perturb(w, g, None)
    torch.testing.assert_close(e, 0.5 * g.sign() / len(g) ** 0.5)
    torch.testing.assert_close(scope["gradient_direction"](problem), -g / g.norm())


def test_every_name_in_the_table_of_methods_exists() -> None:
    import landscape as ls

    table = README.split("## What is computed")[1].split("## How to find")[0]
    for name in re.findall(r"`([a-z_0-9.A-Z]+)`", table):
        found = ls
        for part in name.split("."):
            found = getattr(found, part, None) or getattr(ls.metrics, part)
        assert found is not None


def test_every_public_name_is_there() -> None:
    import landscape as ls

    assert [name for name in ls.__all__ if not hasattr(ls, name)] == []
    assert len(set(ls.__all__)) == len(ls.__all__)
