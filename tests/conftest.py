"""Shapes and types are checked in tests only: jaxtyping's hook wraps the package with beartype."""

from jaxtyping import install_import_hook

with install_import_hook("landscape", "checked.check"):
    import landscape
    import landscape.cli
    import landscape.interop.pyhessian  # noqa: F401  (the rest of the package)

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from landscape.plots import save_figure

torch.set_num_threads(1)


@pytest.fixture
def png_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of a study without their PDF, which takes half of the time."""
    monkeypatch.setattr("landscape.report.figures.save_figure", partial(save_figure, formats=("png",)))


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The benchmarks' folder as Python has it when a script there is run, and gone from memory afterwards."""
    folder = Path(__file__).parents[1] / "analysis_scripts" / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    yield
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "").parent == folder:
            del sys.modules[name]
