"""A loss surface as a solid to print: the surface on top, a flat bottom, walls around, in binary STL.

The solid is closed: every edge belongs to two triangles that run along it in opposite directions. Points that are not
finite leave holes with walls of their own. Two cells that would touch in one corner only share an edge there that
belongs to four triangles, which no printer can tell inside from outside at, so both are left out.
Source: 3D Systems 1988, "StereoLithography interface specification".
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.checks import positive, require
from landscape.interop.surface_mesh import corners, finite_cells, heights
from landscape.storage.atomic import replacing
from landscape.storage.results import Slice2D

Array = NDArray[Any]
TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def write_stl(
    surface: Slice2D,
    path: str | Path,
    *,
    split: str = "train",
    scale: str = "log",
    size: float = 100.0,
    height: float = 40.0,
    base: float = 3.0,
    vmax: float | None = None,
) -> Path:
    """Write the solid under the surface.

    Args:
        surface: of `slice_2d`, at least 2 points along each axis.
        path: ending in .stl.
        split: whose loss is the height.
        scale: "log" or "linear".
        size: of the longer side, in millimetres as printers read it; x and y keep their proportion.
        height: from the lowest point of the surface to the highest, likewise.
        base: what lies under the lowest point, likewise.
        vmax: a loss above this is cut to a plateau; default none.
    Returns:
        The path.
    Raises:
        ValueError: if an argument is out of range, the grid too small, or no cell is left.
    """
    target = Path(path)
    require(target.suffix == ".stl", f"path must end in .stl, got {path}")
    for name, value in (("size", size), ("height", height), ("base", base)):
        positive(name, value)
    z = heights(surface, split, scale)
    if vmax is not None:
        positive("vmax", vmax)
        z = z.clip(max=np.log10(vmax) if scale == "log" else vmax)
    cells = _without_pinches(finite_cells(z))
    require(bool(cells.any()), "the surface has no cell with four finite corners; try another scale or range")
    quads = corners(cells)
    used = z.ravel()[np.unique(quads)]
    lift = height / (used.max() - used.min()) if used.max() > used.min() else 0.0
    axes = [axis.cpu().double().numpy() for axis in (surface.x, surface.y)]
    unit = size / max(axis[-1] - axis[0] for axis in axes)
    across, up = np.meshgrid(*(unit * (axis - axis[0]) for axis in axes))
    top = np.stack([across.ravel(), up.ravel(), base + lift * (z.ravel() - used.min())], axis=1)
    triangles = _solid(top, quads)
    with replacing(target) as partial:
        partial.write_bytes(_binary(triangles, f"landscape, {scale} {split} loss"))
    return target


def _without_pinches(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without pairs of cells that meet in a corner between two that are absent; repeated, for one may bare another."""
    while True:
        a, b, c, d = cells[:-1, :-1], cells[:-1, 1:], cells[1:, 1:], cells[1:, :-1]
        pinched = (a & c & ~b & ~d) | (b & d & ~a & ~c)
        if not pinched.any():
            return cells
        around = np.pad(pinched, 1)
        cells = cells & ~(around[:-1, :-1] | around[:-1, 1:] | around[1:, 1:] | around[1:, :-1])


def _solid(top: Array, quads: NDArray[np.int64]) -> Array:
    """(triangles, 3, 3): corners counter-clockwise seen from outside."""
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    edges = np.concatenate([quads[:, [i, (i + 1) % 4]] for i in range(4)])
    code, reverse = edges @ (len(top), 1), edges @ (1, len(top))
    begin, end = edges[~np.isin(reverse, code)].T  # no cell beyond
    floor = top * (1, 1, 0)
    walls = [np.stack([top[end], top[begin], floor[begin]], 1), np.stack([top[end], floor[begin], floor[end]], 1)]
    return np.concatenate([top[faces], floor[faces[:, ::-1]], *walls])


def _binary(triangles: Array, title: str) -> bytes:
    """80 bytes of title, the number of triangles, and 50 bytes for each."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    records = np.zeros(len(triangles), TRIANGLE)
    records["normal"] = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    records["corners"] = triangles
    return title.encode()[:80].ljust(80) + np.uint32(len(records)).astype("<u4").tobytes() + records.tobytes()
