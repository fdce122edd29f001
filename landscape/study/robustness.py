"""How a trained network fares on its test set, and on what has been done to it: attacks, corruptions, other images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import integer_in, require
from landscape.data import Images, Lazy
from landscape.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from landscape.data.image_folder import lazy_images, read_images
from landscape.data.lazy_images import like
from landscape.storage.manifest import read_or_none, write_json
from landscape.study.attacks import fgsm, pgd
from landscape.study.network_record import ROBUSTNESS_FILE, Analysis, NetworkRecord, run_data
from landscape.training import load_checkpoint
from landscape.training.trainer.checkpoint import NAME
from landscape.training.trainer.device import device_of, place_of
from landscape.training.trainer.evaluation import evaluate_on, top_error_on

BATCH = 256
SUMMARY = ("top5_error", "fgsm_error", "pgd10_error", "corruption_error")  # columns of a study


def robustness(
    model: nn.Module,
    data: Images | Lazy,
    *,
    samples: int | None = None,
    size: float = 8 / 255,
    corruptions: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Errors on the test set, shares in [0, 1].

    Args:
        model: the network.
        data: its data; of texts there is no attack and no corruption.
        samples: the first so many test images; default all.
        size: radius of the attacks, in units of the way from black to white.
        corruptions: whether to take them too: 45 passes over the images.
        seed: of the noise, and of PGD's start.
    Returns:
        loss, error, top5_error, samples; of images fgsm_error, pgd10_error (ten steps of size/4 from a random start,
        Madry's at 8/255, see `pgd`), corruption_error (the mean of all) and corruptions, {name: five errors}.
    Raises:
        ValueError: if samples is below 1.
    """
    if samples is not None:
        integer_in("samples", samples, 1)
    batches, device = data.batches("test", BATCH, samples), place_of(model)
    x, _ = next(iter(batches))
    loss, accuracy = evaluate_on(model, batches)
    found: dict[str, Any] = {"samples": _size(data, samples), "loss": loss, "error": 1 - accuracy}
    found["top5_error"] = top_error_on(model, batches)
    if x.ndim != 4 or not x.is_floating_point():
        return found
    black, white = (end.to(device, x.dtype) for end in data.pixel_span)
    span, generator = (black, white), torch.Generator().manual_seed(seed)

    def error(change: Callable[[Tensor, Tensor], Tensor]) -> float:
        placed = ((x.to(device), y.to(device)) for x, y in batches)
        return 1 - evaluate_on(model, ((change(x, y), y) for x, y in placed))[1]

    found["fgsm_error"] = error(lambda a, b: fgsm(model, a, b, span, size=size))
    found["pgd10_error"] = error(
        lambda a, b: pgd(model, a, b, span, size=size, steps=10, step=size / 4, generator=generator)
    )
    if not corruptions:
        return found

    def corrupted(name: str, severity: int) -> float:
        draws = torch.Generator().manual_seed(seed)  # the same noise, only stronger
        unit = white - black
        return error(lambda a, _: black + unit * corrupt((a - black) / unit, name, severity, draws))

    errors = {name: [corrupted(name, severity) for severity in SEVERITIES] for name in CORRUPTIONS}
    every = [value for values in errors.values() for value in values]
    return {**found, "corruption_error": sum(every) / len(every), "corruptions": errors}


def _size(data: Images | Lazy, samples: int | None) -> int:
    """Of the test set, or of its part; a stream is read."""
    whole = data.test.count if isinstance(data, Lazy) else len(data.test_targets)
    if whole is None:
        return sum(len(y) for _, y in data.batches("test", BATCH, samples))
    return whole if samples is None else min(whole, samples)


def run_robustness(run: str | Path, images: str | Path = "", device: str = "auto", **settings: Any) -> dict[str, Any]:
    """`robustness` of the network in a run folder.

    Args:
        run: the folder.
        images: a folder of images by class in place of its test set (ImageNet-V2, ImageNet-R, ...), whose names are
            those of the run's classes; some may be missing.
        device: where to compute: auto (cuda where there is one, else mps, else cpu), cpu, cuda, cuda:N, mps.
        settings: see `robustness`.
    Raises:
        ValueError: if there is no readable run or no such device, or the images are none of its classes or sizes.
    """
    place = device_of(device)
    model, metadata = load_checkpoint(run)
    data = run_data(run, metadata)
    if images:
        data = _other(data, Path(images))
    return robustness(model.to(place), data, **settings)


def withstand(network: NetworkRecord, analysis: Analysis) -> None:
    """Errors under attacks and corruptions of one network of a study into its folder."""
    if not analysis.robustness:
        return
    trained = (Path(network.folder) / NAME).is_file()
    require(trained, "robustness belongs to networks that landscape trained; leave it out for checkpoints of your own")
    file = Path(network.folder) / ROBUSTNESS_FILE
    asked = {"samples": analysis.robustness, "seed": analysis.seed, "network": network.settings()}
    kept = read_or_none(file)
    if kept and kept.get("asked") == asked:
        return
    found = run_robustness(network.folder, samples=analysis.robustness, seed=analysis.seed)
    summary = {name: found[name] for name in SUMMARY if name in found}
    write_json(file, {"asked": asked, "columns": summary, "found": found})


def _other(data: Images | Lazy, folder: Path) -> Images | Lazy:
    """The same data with the images of a folder as the test set, standardised by the training set's pixels."""
    require(bool(data.class_names), "images must be of a run on a folder of images, whose classes have names")
    black, white = data.pixel_span
    channels, height, width = data.first(1)[0].shape[1:]
    chosen = data.class_names, height if height == width else 0, channels == 1
    if isinstance(data, Lazy):
        shape = (channels, height, width)
        return replace(data, test=like(data, str(folder), lazy_images(folder, *chosen), shape))
    pixels, labels = read_images(folder, *chosen, (channels, height, width))
    x = black + (white - black) * torch.from_numpy(pixels).float() / 255
    return replace(data, test_inputs=x, test_targets=torch.from_numpy(labels))
