"""Small runs of the bundled trainer, and how they are compared and cut short."""

import socket

import torch

from landscape.training import TrainConfig, load_checkpoint, read_log, train
from landscape.training.trainer import loop

SMALL = {
    "model": "mlp",
    "model_settings": {"hidden": [8]},
    "label_noise": 0.2,
    "epochs": 3,
    "batch_size": 500,
    "progress": False,
}
BATCH_NORM = {"model": "resnet", "model_settings": {"width": 2, "norm": "batch"}}
CLOCK = ("seconds", "gradient_times")


def config(folder, **changes):
    return TrainConfig(folder=folder, **(SMALL | changes))


def weights(folder):
    return torch.cat([p.detach().reshape(-1) for p in load_checkpoint(folder)[0].parameters()])


def state(folder):
    """Weights and buffers."""
    return torch.cat([t.double().reshape(-1) for t in load_checkpoint(folder)[0].state_dict().values()])


def rows(folder, name="log.jsonl"):
    """A run's log but for what the clock says."""
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in read_log(folder, name)]


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def cut_short(run, steps, monkeypatch):
    """Train until so many steps are done and saved, and stop in the next one."""
    original, done = loop.Run._step, []

    def dies(self, index):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(index)
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_SECONDS", -1.0)
        patch.setattr(loop.Run, "_step", dies)
        try:
            train(run)
        except KeyboardInterrupt:
            return
    raise AssertionError(f"the run was over after {len(done)} steps")
