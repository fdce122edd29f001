"""One page to mail: surfaces of several networks under one camera, on one scale, each with its spectrum and a line.

The page draws itself (view.js beside this file, without a library or a network), so that four surfaces of 51 x 51
points take a fifth of a megabyte. Numbers have five digits; a loss that is not finite is a hole.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import one_of, require
from landscape.plots.captions import caption
from landscape.plots.planes import own_loss, plane_loss
from landscape.plots.scale import ABOVE, BELOW, Scale, number, scale_of
from landscape.plots.style import words
from landscape.storage.atomic import replacing
from landscape.storage.results import EigenPairs, Slice1D, Slice2D

SHADES = 33  # colours that the scale is given by
DIGITS = 5

Values = EigenPairs | Sequence[float] | Tensor  # of a spectrum
Label = str | int | float  # of an epoch
Array = NDArray[Any]


class Limits(TypedDict, total=False):
    """Ends of the scale that all surfaces share; all have defaults.

    Keys:
        levels: rising; the first and the last are the ends.
        vmin: lower end, as in `plot_slice_2d`.
        vmax: upper end, likewise; surfaces are cut off there, the numbers told are the true ones.
    """

    levels: Sequence[float] | None
    vmin: float | None
    vmax: float | None


def save_interactive(
    slices: Slice2D | Mapping[str, Slice2D | Mapping[Label, Slice2D]],
    path: str | Path,
    split: str = "train",
    *,
    spectra: Values | Mapping[str, Values | Mapping[Label, Values]] | None = None,
    lines: Sequence[Slice1D] | Mapping[str, Sequence[Slice1D] | Mapping[Label, Sequence[Slice1D]]] | None = None,
    unit: str = "epoch",
    title: str | None = None,
    **limits: Unpack[Limits],
) -> Path:
    """Write the losses on planes as one HTML page to turn around, with a slider where there are epochs.

    Args:
        slices: of `slice_2d`: one, or name -> slice for networks side by side, or name -> (epoch -> slice) for a
            slider; all series have the same epochs, a network with a single slice stands still.
        path: where to.
        split: whose loss.
        spectra: eigenvalues beside the surfaces, nested as `slices`: EigenPairs, or numbers.
        lines: Slice1D along the eigenvectors themselves (length 1, so that x is a distance), the first of them first,
            nested likewise; L0 + λ x² / 2 is drawn over each.
        unit: what the labels of a series count.
        title: default names the networks.
        limits: levels, vmin, vmax: see `Limits`.
    Returns:
        The path. The page opens as its hash says: surface.html#frame=0&at=0.5,-0.2&turn=0.8&tilt=0.6&along=2&log=0.
    Raises:
        ValueError: if no loss is finite, names or epochs do not belong together, planes are normalised in different
            ways, or as `plot_slice_2d`.
    """
    series = _nested(slices, Slice2D, "slices")
    labels = _labels(series, unit)
    _require_alike([own for each in series.values() for own in each.values()], split)
    values = _nested(spectra, (EigenPairs, Sequence, Tensor), "spectra", series)
    along = _nested(lines, Sequence, "lines", series)
    networks = []
    for name, each in series.items():
        spectrum, drawn = values.get(name, {}), along.get(name, {})
        frames = [_frame(own, split, spectrum.get(label), drawn.get(label, ()), name) for label, own in each.items()]
        networks.append({"name": name, "frames": frames})
    scale = scale_of(_all_losses(networks), limits.get("levels"), limits.get("vmin"), limits.get("vmax"))
    content = {"networks": networks, "labels": labels, "unit": unit, "split": split, "scale": _scale(scale)}
    named = title or f"{words(split)} loss around {', '.join(filter(None, series)) or 'a network'}"
    page = _page(content, title=named[:1].upper() + named[1:], scale=scale)
    target = Path(path)
    with replacing(target) as partial:
        partial.write_text(page, encoding="utf-8")
    return target


def _page(content: Mapping[str, Any], **shown: Any) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    html, script = (
        files("landscape.plots.interactive").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.html", "view.js")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return environment.from_string(html).render(
        content=content, rows=list(_rows(content)), data=Markup(data), script=Markup(script), **shown
    )


def _nested(
    given: Any, kind: type | tuple[type, ...], what: str, series: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Name -> label -> result of what may be one result, or a mapping once or twice; a label "" stands for none."""
    if given is None:
        return {}
    named = given if isinstance(given, Mapping) else {"": given}
    found = {
        str(name): {str(label): own for label, own in each.items()} if isinstance(each, Mapping) else {"": each}
        for name, each in named.items()
    }
    require(
        bool(found) and all(found.values()), f"{what} must hold at least one result for each name, got an empty one"
    )
    for name, each in found.items():
        wrong = [own for own in each.values() if not isinstance(own, kind)]
        require(
            not wrong, f"{what} must be results, by name, or by name and epoch, got {type((wrong or [0])[0]).__name__}"
        )
        if series is not None:
            one_of(f"a name of {what}", name, tuple(series))
            for label in each:
                one_of(f"an epoch of {what} of {name!r}", label, tuple(series[name]))
    return found


def _labels(series: Mapping[str, Mapping[str, Slice2D]], unit: str) -> list[str]:
    """The epochs of all series: one list; [""] where nothing moves."""
    moving = {name: list(each) for name, each in series.items() if list(each) != [""]}
    if not moving:
        return [""]
    first, *others = moving.items()
    for name, labels in others:
        require(
            labels == first[1],
            f"all series must have the same {unit}s, got {_few(first[1])} of {first[0]!r} and {_few(labels)} of "
            f"{name!r}; leave out what not all have",
        )
    return first[1]


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels if len(labels) < 6 else [*labels[:3], "...", labels[-1]])


def _require_alike(slices: Sequence[Slice2D], split: str) -> None:
    """Refuse what no scale is honest for: α in units of one kind here and of another there."""
    kinds = {str(own.details["normalize"]) for own in slices if "normalize" in own.details}
    require(len(kinds) < 2, f"slices must be normalised alike to stand on one scale, got {' and '.join(sorted(kinds))}")
    finite = any(np.isfinite(plane_loss(own, split)).any() for own in slices)
    require(finite, f"slices must hold a finite {split} loss, got none")


def _frame(slice: Slice2D, split: str, values: Values | None, lines: Sequence[Slice1D], name: str) -> dict[str, Any]:
    """One surface and what stands beside it, as JSON holds it."""
    loss = plane_loss(slice, split)
    spectrum, errors = _spectrum(values)
    _check_lines(lines, len(spectrum), split, name or "the network")
    gaps = int((~np.isfinite(loss)).sum())
    x, y = _axis(slice.x), _axis(slice.y)
    spans = [
        f"{letter} from {axis[0]:.4g} to {axis[-1]:.4g} times |{direction}| = {norm:.4g}"
        for letter, axis, direction, norm in zip("αβ", (x, y), ("d1", "d2"), slice.norms.tolist(), strict=True)
    ]
    holes = f" {gaps:,} of {loss.size:,} points are not finite: holes, grey on the floor." if gaps else ""
    accuracy = slice.accuracy.get(split)
    return {
        "x": _rounded(x),
        "y": _rounded(y),
        "loss": _rounded(loss),
        "accuracy": None if accuracy is None or not accuracy.isfinite().any() else _rounded(accuracy),
        "own": _rounded(own_loss(slice, loss)),
        "values": _rounded(spectrum),
        "errors": _rounded(errors),
        "lines": [{"x": _rounded(_axis(own.x)), "loss": _rounded(own.loss[split])} for own in lines],
        "gaps": gaps,
        "facts": f"{', '.join(spans)}; {caption(slice, split)}{holes}",
    }


def _check_lines(lines: Sequence[Slice1D], most: int, split: str, name: str) -> None:
    for own in lines:
        require(isinstance(own, Slice1D), f"lines of {name!r} must be Slice1D, got {type(own).__name__}")
        one_of(f"the split of the lines of {name!r}", split, tuple(own.loss))
    require(len(lines) <= most, f"lines of {name!r} must be one an eigenvalue, got {len(lines)} for {most}")


def _axis(places: Tensor) -> list[float]:
    """The grid's places; 0 where one is 0 up to rounding, as 1e-17 is."""
    far = float(places.abs().max())
    return [0.0 if abs(place) < 1e-9 * far else place for place in places.tolist()]


def _spectrum(values: Values | None) -> tuple[Sequence[float], Sequence[float]]:
    if isinstance(values, EigenPairs):
        return values.values.tolist(), values.residuals.tolist()
    return [float(value) for value in values if isfinite(value)] if values is not None else [], []


def _rounded(values: Any) -> Any:
    """Nested lists of numbers in few digits; None for what is not finite."""
    if values is None or isinstance(values, int | float):
        return float(f"{values:.{DIGITS}g}") if values is not None and isfinite(values) else None
    return [_rounded(own) for own in (values if isinstance(values, list) else values.tolist())]


def _all_losses(networks: Sequence[Mapping[str, Any]]) -> Array:
    rows = [row for network in networks for frame in network["frames"] for row in frame["loss"]]
    return np.array([value for row in rows for value in row], dtype=float)  # None: NaN


def _scale(scale: Scale) -> dict[str, Any]:
    shades = [to_hex(scale.colors(i / (SHADES - 1))) for i in range(SHADES)]
    ends = {"above": to_hex(ABOVE), "below": to_hex(BELOW)}
    return {"low": scale.low, "high": scale.high, "log": scale.logarithmic, "colors": shades, **ends}


def _rows(content: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The surfaces in numbers, for who does not see them."""
    for network in content["networks"]:
        labels = content["labels"] if len(network["frames"]) > 1 else [""]
        for label, frame in zip(labels, network["frames"], strict=True):
            loss = np.array(frame["loss"], dtype=float)
            known = {"network": network["name"], "when": label, "centre": _told(frame["own"])}
            for key, where in (("lowest", np.nanargmin), ("highest", np.nanargmax)):
                row, column = np.unravel_index(where(loss), loss.shape) if np.isfinite(loss).any() else (0, 0)
                place = f"({frame['x'][column]:.3g}, {frame['y'][row]:.3g})"
                known[key] = f"{_told(frame['loss'][row][column])} at {place}"
            yield {**known, "gaps": f"{frame['gaps']:,}", "top": _told((frame["values"] or [None])[0])}


def _told(value: float | None) -> str:
    return "–" if value is None else number(value)
