"""Packages that are tested with where they are installed."""

import sys

import pytest
import torch

_DECLARED = []  # operators live as long as their library object


def importorskip(name):
    """The package; the test module is skipped where it is not installed."""
    _mend_torchvision()
    return pytest.importorskip(name)


def _mend_torchvision():
    """Declare the operators that a torchvision built for another torch lacks.

    Without them torchvision cannot be imported, nor can transformers or lightning, which do so where they find it.
    """
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        return
    except RuntimeError:
        for module in [module for module in sys.modules if module.startswith("torchvision")]:
            del sys.modules[module]
        _DECLARED.append(torch.library.Library("torchvision", "DEF"))
        for name in ("nms", "qnms"):  # those that it looks for when it is imported
            _DECLARED[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
