"""Shapes and types are checked in tests only: jaxtyping's hook wraps the package with beartype."""

from jaxtyping import install_import_hook

with install_import_hook("landscape", "beartype.beartype"):
    import landscape  # noqa: F401

import torch

torch.set_num_threads(1)
