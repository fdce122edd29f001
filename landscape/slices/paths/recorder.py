"""Snapshots of a training run: the flat weights and the buffers, in a folder, one safetensors file each.

A file appears whole or not at all, so that a killed run leaves only whole ones. In memory there is one snapshot.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from landscape.checks import integer_in, require
from landscape.problem.parameters import Selection, selected
from landscape.storage.atomic import replacing
from landscape.storage.manifest import read_json, write_json
from landscape.storage.settings import differing
from landscape.vectors import Layout, flatten, layout_of

MANIFEST = "recorder.json"
BUFFER = "buffer/"  # before the name of a buffer in a file


class Recorder:
    """Keeps a network's weights every n steps of any training loop, which it leaves untouched.

    recorder = Recorder(model, "run/snapshots", every=10)
    for inputs, targets in loader: ...; optimizer.step(); recorder.step()

    Args:
        model: any module. Its buffers are kept too: batch norm's statistics belong to the weights.
        folder: where the snapshots go, 4 P bytes each in float32.
        every: steps between snapshots.
        parameters: which, as `Problem` takes them; the same as those of the problem that will look at them.
        start: the step the training goes on from. At 0 the weights are kept at once; later, what was recorded after it
            is removed, for it will be recorded again.
    Raises:
        ValueError: if the folder holds snapshots and `start` is not given, or those of other parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: str | Path,
        *,
        every: int = 1,
        parameters: Selection | None = None,
        start: int | None = None,
    ) -> None:
        integer_in("every", every, 1)
        integer_in("start", start or 0, 0)
        self.model, self.folder, self.every, self.steps = model, Path(folder), every, start or 0
        self.layout = layout_of(model, selected(model, parameters))
        self._claim(start)
        if self.steps == 0:
            self.record()

    def step(self) -> None:
        """To be called after each step of the optimizer."""
        self.steps += 1
        if self.steps % self.every == 0:
            self.record()

    def record(self) -> Path:
        """Keep the present weights, whatever the step; returns the file. For the last step, where `every` misses it."""
        own = dict(self.model.named_parameters())
        buffers = {BUFFER + name: b.detach().cpu().clone() for name, b in self.model.named_buffers()}
        target = self.folder / f"step-{self.steps:09d}.safetensors"
        with replacing(target) as partial:
            save_file({"w": flatten([own[name] for name in self.layout.names]).cpu(), **buffers}, partial)
        return target

    def _claim(self, start: int | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        found, manifest = _files(self.folder), _manifest(self.layout)
        last = max(found, default=0)
        require(
            not found or start is not None,
            f"folder {self.folder} holds snapshots up to step {last}; pass start=, the step the training goes on from, "
            "0 to begin anew",
        )
        if found and self.steps > 0:
            other = differing(read_json(self.folder / MANIFEST), manifest)
            require(not other, f"folder {self.folder} holds snapshots of other parameters; choose another folder")
        for step, path in found.items():
            if step > self.steps or self.steps == 0:
                path.unlink()
        write_json(self.folder / MANIFEST, manifest)


class Snapshots:
    """What a Recorder kept. Nothing is read but what is asked for.

    Args:
        source: the Recorder, or its folder.
        layout: of the problem that looks at them.
    Raises:
        ValueError: if there are none, or they are of other parameters.
    """

    def __init__(self, source: Recorder | str | Path, layout: Layout) -> None:
        folder = source.folder if isinstance(source, Recorder) else Path(source)
        self.files = _files(folder)
        require(bool(self.files), f"folder {folder} must hold snapshots of a Recorder, got none")
        other = list(differing(read_json(folder / MANIFEST)["parameters"], _manifest(layout)["parameters"]))
        require(
            not other,
            f"snapshots in {folder} must be of the problem's parameters, differ in {other[:3]}; "
            "give Recorder and Problem the same parameters=",
        )

    @property
    def steps(self) -> list[int]:
        """Of the snapshots, rising, T."""
        return list(self.files)

    def at(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Weights (P,) and buffers by name, on the CPU."""
        stored = _read(self.files[step], None)
        return stored.pop("w"), {name.removeprefix(BUFFER): tensor for name, tensor in stored.items()}

    def columns(self, start: int, stop: int) -> Tensor:
        """Entries [start, stop) of all snapshots, (T, stop − start)."""
        return torch.stack([_read(path, slice(start, stop))["w"] for path in self.files.values()])


def _read(path: Path, part: slice | None) -> dict[str, Tensor]:
    """All of a file, or a part of its weights."""
    try:
        with torch.device("cpu"), safe_open(path, framework="pt") as file:
            if part is not None:
                return {"w": file.get_slice("w")[part]}
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} must be a snapshot of a Recorder, got: {error}; remove it") from error


def _files(folder: Path) -> dict[int, Path]:
    """Step to file, rising."""
    found = {path: path.stem.removeprefix("step-") for path in folder.glob("step-*.safetensors")}
    return {int(step): path for path, step in sorted(found.items()) if step.isdecimal()}


def _manifest(layout: Layout) -> dict[str, dict[str, Sequence[int]]]:
    return {"parameters": {name: list(shape) for name, shape in zip(layout.names, layout.shapes, strict=True)}}
