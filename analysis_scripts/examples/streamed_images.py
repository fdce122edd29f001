"""A stream for `landscape train`: images in files that together need not fit into memory.

landscape train RUN --config analysis_scripts/configs/streamed_images.yaml --data-path FOLDER

FOLDER has train-*.npz and test-*.npz, each with inputs, uint8 (N, channels, height, width), and targets (N,). Of n
workers each reads every n-th file, one at a time.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info


class Files(IterableDataset[tuple[Tensor, int]]):
    """The images of some files; shuffled, the files first and then the images of each."""

    def __init__(self, files: list[Path], classes: int, shuffled: bool) -> None:
        self.files, self.classes, self.shuffled = files, range(classes), shuffled

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        worker = get_worker_info()
        own = self.files[worker.id :: worker.num_workers] if worker else list(self.files)
        if self.shuffled:
            random.shuffle(own)  # the trainer has seeded it, for this epoch and worker
        for file in own:
            with np.load(file) as content:
                inputs, targets = content["inputs"], content["targets"]
            order = list(range(len(targets)))
            if self.shuffled:
                random.shuffle(order)
            for place in order:
                yield torch.from_numpy(inputs[place]).float() / 127.5 - 1, int(targets[place])


def sets(folder: str, classes: int = 10) -> tuple[Files, Files]:
    """(train, test)."""
    train, test = (sorted(Path(folder).glob(f"{of}-*.npz")) for of in ("train", "test"))
    return Files(train, classes, shuffled=True), Files(test, classes, shuffled=False)
