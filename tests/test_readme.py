import re
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import make

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))


@pytest.mark.filterwarnings("ignore::UserWarning:torch")
@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_lines_print_what_stands_below_them(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text()
    made, eight, *others = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        exec(made + eight, scope)
        printed = capsys.readouterr().out
        for block in others:
            exec(block, scope)
    (said,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    first = re.compile(r"(?:^|trace )(\d+\.\d+)", re.MULTILINE)  # bounds, which rounding makes, differ by machine
    values, found = ([float(value) for value in first.findall(own)] for own in (said, printed))
    assert len(values) == said.count("\n")
    assert values == pytest.approx(found, rel=0.02)


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 120
    assert len(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1].strip().splitlines()) <= 9  # eight, and a blank


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

    for name in re.findall(r"`([a-z_0-9.A-Z]+)`", (ROOT / "docs" / "methods.md").read_text()):
        found = ls
        for part in name.split("."):
            found = getattr(found, part, None) or getattr(ls.metrics, part)
        assert found is not None


def test_every_public_name_is_there() -> None:
    import landscape as ls

    assert [name for name in ls.__all__ if not hasattr(ls, name)] == []
    assert len(set(ls.__all__)) == len(ls.__all__)
