"""Readers of data sets from local files and packages; none touches the network."""

from collections.abc import Callable

from landscape.data.digits import digits
from landscape.data.images import Images

# name -> reader, called with (label_noise=, seed=)
DATASETS: dict[str, Callable[..., Images]] = {"digits": digits}

__all__ = ["DATASETS", "Images", "digits"]
