"""Shapes and types are checked in tests only: jaxtyping's hook wraps the package with beartype."""

from jaxtyping import install_import_hook

with install_import_hook("landscape", "checked.check"):
    import landscape
    import landscape.cli
    import landscape.interop.pyhessian  # noqa: F401  (the rest of the package)

import torch

torch.set_num_threads(1)
