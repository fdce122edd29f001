"""Shapes and types are checked in tests only: jaxtyping's hook wraps the package with beartype."""

from jaxtyping import install_import_hook

with install_import_hook("landscape", "checked.check"):
    import landscape
    import landscape.cli
    import landscape.interop.pyhessian  # noqa: F401  (the rest of the package)

from functools import partial

import pytest
import torch

from landscape.plots import save_figure

torch.set_num_threads(1)


@pytest.fixture
def png_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of a study without their PDF, which takes half of the time."""
    monkeypatch.setattr("landscape.report.figures.save_figure", partial(save_figure, formats=("png",)))
