"""`landscape view`: surfaces that are computed already as one page to turn around, several networks side by side."""

from pathlib import Path
from typing import Any

import click
import torch

from landscape.checks import require
from landscape.plots import save_interactive
from landscape.storage.manifest import read_json
from landscape.storage.results import EigenPairs, Slice2D

EPOCH, END = "epoch-", "end"  # folders of networks kept on the way, and the label of the last one
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("view")
@click.argument("sources", nargs=-1, required=True, metavar="[NAME=]RUN|SLICE.npz ...")
@click.option("--out", type=FILE, default="view.html", show_default=True, help="The page.")
@click.option("--split", default="train", show_default=True, help="Whose loss.")
@click.option("--title", default=None, help="Default: names the networks.")
def view_command(sources: tuple[str, ...], out: Path, split: str, title: str | None) -> None:
    """Surfaces of landscape slice under one camera and on one scale, as one HTML page below 3 MB.

    A RUN gives its surface, the eigenvalues of landscape spectrum where they lie beside it, and a slider where the
    networks kept in RUN/epoch-N have a surface of that name too.
    """
    slices: dict[str, Any] = {}
    spectra: dict[str, Any] = {}
    for name, path in _named(sources).items():
        files = _series(_surface(path))
        planes = {label: Slice2D.load(file) for label, file in files.items()}
        values = {label: own for label, file in files.items() if (own := _spectrum(file.parent))}
        moving = len(files) > 1
        slices[name] = planes if moving else planes[END]
        if values:
            spectra[name] = values if moving else values[END]
    click.echo(f"{save_interactive(slices, out, split, spectra=spectra or None, title=title)}")


def _named(sources: tuple[str, ...]) -> dict[str, Path]:
    """Name to path; without a name the last part of the path, or all of it where two would be alike."""
    given = [("", text) if Path(text).exists() else text.rpartition("=")[::2] for text in sources]
    short = [name or Path(text).name.removesuffix(".npz") for name, text in given]
    names = [name if short.count(name) == 1 else text for name, (_, text) in zip(short, given, strict=True)]
    require(len(set(names)) == len(names), f"names must differ, got {', '.join(names)}; give NAME=RUN")
    return {name: Path(text) for name, (_, text) in zip(names, given, strict=True)}


def _surface(path: Path) -> Path:
    """The file, or the only surface in a folder."""
    if not path.is_dir():
        require(path.exists(), f"a surface must be a file of landscape slice or a folder with one, found no {path}")
        return path
    found = sorted(path.glob("surface-*.npz"))
    require(len(found) > 0, f"{path} holds no surface; landscape slice with --out {path} makes one")
    names = ", ".join(file.name for file in found)
    require(len(found) == 1, f"{path} holds several surfaces, {names}; name the file in place of the folder")
    return found[0]


def _series(surface: Path) -> dict[str, Path]:
    """Epoch to the surface of that name, the last network as "end"."""
    kept = surface.parent.glob(f"{EPOCH}*/{surface.name}")
    epochs = {text: file for file in kept if (text := file.parent.name.removeprefix(EPOCH)).isdecimal()}
    return {text: epochs[text] for text in sorted(epochs, key=int)} | {END: surface}


def _spectrum(folder: Path) -> EigenPairs | None:
    """The Hessian's eigenvalues that lie there, those of the default settings first; without vectors."""
    found = min(folder.glob("spectrum-hessian*.json"), key=lambda file: (len(file.name), file.name), default=None)
    if found is None:
        return None
    kept = read_json(found).get("eigenvalues", {})
    require({"values", "residuals", "converged", "matvecs"} <= kept.keys(), f"{found} must be of landscape spectrum")
    values, residuals = (torch.tensor(kept[name], dtype=torch.float64) for name in ("values", "residuals"))
    none = torch.empty(0, len(values), dtype=torch.float64)
    return EigenPairs(values, none, residuals, torch.tensor(kept["converged"]), kept["matvecs"])
