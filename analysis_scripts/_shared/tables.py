"""Small tables as data sets, (train, test): three that scikit-learn brings, and one made of noise and a rule."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

TESTED = 3  # every third row is a test row


def table(name: str) -> tuple[TensorDataset, TensorDataset]:
    """Rows in a fixed random order, columns with mean 0 and variance 1 over the training rows.

    Args:
        name: "breast_cancer" (569 rows, 30 columns, 2 classes), "wine" (178, 13, 3), "iris" (150, 4, 3), or "parity"
            (600, 10, 2): the sign of x₁x₂, the other columns noise.
    """
    x, y = _parity() if name == "parity" else _bundled(name)
    order = np.random.default_rng(0).permutation(len(y))
    tested = np.arange(len(y)) % TESTED == 0
    train, test = order[~tested], order[tested]
    x = (x - x[train].mean(0)) / x[train].std(0)
    return _rows(x[train], y[train]), _rows(x[test], y[test])


def _bundled(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn import datasets

    found: tuple[NDArray[Any], NDArray[Any]] = getattr(datasets, f"load_{name}")(return_X_y=True)
    return found


def _parity() -> tuple[NDArray[Any], NDArray[Any]]:
    x = np.random.default_rng(1).standard_normal((600, 10))
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def _rows(x: NDArray[Any], y: NDArray[Any]) -> TensorDataset:
    return TensorDataset(torch.from_numpy(x).float(), torch.from_numpy(y).long())
