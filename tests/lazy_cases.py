"""Data sets that are read lazily, of a function in a file, as a user writes them."""

SCRIPT = """
import os, random, time
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from landscape.data import digits

D = digits()

class Digits(Dataset):
    classes = range(10)

    def __init__(self, of, noise=0.0, dtype=None, fault=None):
        self.x, self.y = (D.train_inputs, D.train_targets) if of == "train" else (D.test_inputs, D.test_targets)
        self.x, self.noise, self.fault = self.x.to(dtype), noise, fault

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        if self.fault is not None and i == 7:
            return self.fault(self.x[i])
        drawn = torch.randn(()) + random.random() + np.random.rand() if self.noise else 0.0
        return self.x[i] + self.noise * drawn, int(self.y[i])

class Stream(IterableDataset):
    classes = range(10)

    def __init__(self, of, divided=True, shuffled=False, ends=None):
        self.items, self.divided, self.shuffled, self.ends, self.epoch = Digits(of), divided, shuffled, ends or {}, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        worker = get_worker_info()
        own = (worker.id, worker.num_workers) if worker and self.divided else (0, 1)
        places = list(range(own[0], self.ends.get(self.epoch, len(self.items)), own[1]))
        if self.shuffled:
            random.shuffle(places)
        for i in places:
            yield self.items[i]

def sets(noise=0.0):
    return Digits("train", noise), Digits("test")

def doubles():
    return tuple(Digits(of, dtype=torch.float64) for of in ("train", "test"))

def double_stream():
    train = Stream("train")
    train.items = Digits("train", dtype=torch.float64)
    return train, Digits("test", dtype=torch.float64)

def by_rank():
    train = Digits("train", dtype=torch.float64)
    train.x = train.x + int(os.environ.get("RANK", 0))
    return train, Digits("test", dtype=torch.float64)

def stream(**settings):
    return Stream("train", **settings), Stream("test")

def ending(**ends):
    return Stream("train", ends={int(key[1:]): value for key, value in ends.items()}), Digits("test")

class Own(Digits):
    count = 0

    def __getitem__(self, i):
        Own.count += 1
        return self.x[i] + Own.count, int(self.y[i])

class Once(IterableDataset):
    classes = range(10)

    def __init__(self):
        self.made = iter(Digits("train"))

    def __iter__(self):
        return self.made

class Nameless(Digits):
    classes = None

def faulty(kind):
    def dies(x):
        raise KeyError("no such file\\nin two lines")
    faults = {
        "dies": dies,
        "killed": lambda x: os.kill(os.getpid(), 9) if get_worker_info() else (x, 1),
        "text": lambda x: ("some text", 1),
        "single": lambda x: x,
        "mapping": lambda x: {"image": x, "label": 1},
        "float": lambda x: (x, 0.5),
        "word": lambda x: (x, "seven"),
        "large": lambda x: (x, 10),
        "shape": lambda x: (x[:, :7], 1),
    }
    return Digits("train", fault=faults[kind]), Digits("test")

def own_generator():
    return Own("train"), Digits("test")

def once():
    return Once(), Digits("test")

def nameless():
    return Nameless("train"), Digits("test")

def empty():
    return Stream("train", ends={0: 0}), Digits("test")
"""


def lazy(tmp_path, function="sets", **settings):
    """What a config has for data of that function."""
    script = tmp_path / "mine.py"
    if not script.exists():
        script.write_text(SCRIPT)
    return {"dataset": f"{script}:{function}", "data_settings": settings, "label_noise": 0.0, "lazy": True}
