"""The frame of all scripts: a Config's fields are options, what was computed is kept, what was found is published."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import perf_counter
from typing import Any

import click
import matplotlib
import numpy as np
import torch
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from analysis_scripts._shared.claims import Claim, told
from analysis_scripts._shared.described import described
from landscape.plots import add_caption, save_figure
from landscape.plots.style import SMALL, STYLE
from landscape.storage.atomic import replacing
from landscape.storage.manifest import read_manifest, rewrite_manifest, whole, write_with_manifest
from landscape.storage.results import read_json, versions, write_json
from landscape.storage.settings import as_json, differing

Arrays = dict[str, NDArray[Any]]
BEGAN = perf_counter()
WORKERS = "FIGURES_WORKERS"  # of the environment: by `make figures`, where scripts run side by side


def command(main: Callable[[Any], Any], config: type[Any]) -> None:
    """Run `main` with the config of the command line: an option a field, in YAML, as in --seeds "[0, 1]".

    The processes of a script, `workers`, may also stand in the environment, as FIGURES_WORKERS.
    """

    def run(**given: str | None) -> None:
        try:
            changed = {name: yaml.safe_load(text) for name, text in given.items() if text is not None}
            own = TypeAdapter(config).validate_python(changed)
        except (yaml.YAMLError, ValidationError) as error:
            raise click.UsageError(" ".join(str(error).split())) from error
        main(own)

    options: list[click.Parameter] = [
        click.Option(
            [f"--{name.replace('_', '-')}", name],
            metavar="YAML",
            help=json.dumps(value, ensure_ascii=False),
            envvar=WORKERS if name == "workers" else None,
        )
        for name, value in asdict(config()).items()
    ]
    click.Command("script", params=options, callback=run, help=sys.modules[config.__module__].__doc__)()


def legend_over(figure: Figure | SubFigure, ax: Axes, columns: int, fontsize: float | None = SMALL) -> None:
    """The legend of one of the panels above all of them."""
    lines, labels = ax.get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=fontsize)


def kept(path: Path, config: Any, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays of PATH.npz if PATH.json beside it holds this config; else those of `compute`, saved there.

    Args:
        path: without a suffix; what a name there ends in is kept, as in lr0.1.
        config: a dataclass that decides the arrays.
        compute: gives the arrays by name.
    """
    settings, data = as_json(asdict(config)), path.with_name(f"{path.name}.npz")
    if whole(data) and not differing(read_manifest(data).get("config", {}), settings):
        with np.load(data, allow_pickle=False) as arrays:
            return dict(arrays)
    found = compute()
    _write(data, found, {"config": settings, "versions": versions()})
    return found


def kept_tensors(path: Path, config: Any, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The same for tensors."""
    found = kept(path, config, lambda: {name: own.numpy() for name, own in compute().items()})
    return {name: torch.from_numpy(own) for name, own in found.items()}


def publish(
    config: Any,
    name: str,
    found: Mapping[str, Any],
    draw: Callable[[], Figure] | None = None,
    *,
    arrays: Mapping[str, Any] | None = None,
    claims: Sequence[Claim] = (),
    formats: Sequence[str] = ("png",),
) -> dict[str, Any]:
    """Write NAME.json, NAME.npz and the figure into the config's folder.

    Args:
        config: of the script.
        name: of the files; if `kept` made NAME.npz, what it said of config and versions stays.
        found: the numbers; a "sentence" among them also stands below the figure, behind what the config's `setting` is.
        draw: makes the figure.
        arrays: data by name, unless `kept` made it.
        claims: of the papers, each with what was found; they end the sentence, and are rows of docs/reproductions.md.
        formats: of the figure.
    Returns:
        What the JSON file holds beside the checksum of its data: config, versions, what was found.
    """
    folder = Path(config.folder)
    data, manifest = (folder / f"{name}.{kind}" for kind in ("npz", "json"))
    known = arrays is None and data.exists()
    content = {**(read_manifest(data) if known else {"config": asdict(config), "versions": versions()}), **found}
    before = read_json(manifest) if manifest.exists() else {}
    for key, spent in (("seconds", perf_counter() - BEGAN), ("cpu_seconds", cpu_seconds())):
        here = max(found.get(key, 0.0), round(spent, 1))
        content[key] = max(before.get(key, 0.0), here)  # a run that finds all done took that long before
    if claims:
        content["claims"] = [asdict(claim) for claim in claims]
    if said := " ".join(filter(None, (described(config), found.get("sentence"), told(claims)))):
        content["sentence"] = said
    if known:
        rewrite_manifest(data, content)
    elif arrays is None:
        write_json(manifest, content)
    else:
        _write(data, {key: np.asarray(own) for key, own in arrays.items()}, content)
    if draw is not None:
        with matplotlib.rc_context(STYLE):
            save_captioned(draw(), folder / name, content.get("sentence", ""), formats)
    return content


def save_captioned(figure: Figure, stem: Path, sentence: str, formats: Sequence[str] = ("png",)) -> None:
    """Write STEM.png with the sentence below it, in 256 colours: a third of the bytes, which a repository keeps."""
    if sentence:
        add_caption(figure, sentence)
    for path in save_figure(figure, stem, formats):
        if path.suffix == ".png":
            with_palette(path)


def cpu_seconds() -> float:
    """Of this process and of those it has waited for: hardly more on a busy machine, where "seconds" grow."""
    spent = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(own.ru_utime + own.ru_stime for own in spent)


def with_palette(path: Path, colors: int = 256) -> None:
    """Few colours: a third of the bytes, for figures that a repository keeps."""
    with Image.open(path) as image:
        small, dpi = image.convert("RGB").quantize(colors, dither=Image.Dither.NONE), image.info["dpi"]
    with replacing(path) as partial_file:
        small.save(partial_file, "png", optimize=True, dpi=dpi)


def _write(data: Path, arrays: Arrays, manifest: Mapping[str, Any]) -> None:
    write_with_manifest(data, partial(np.savez_compressed, **arrays), manifest)  # type: ignore[arg-type]
