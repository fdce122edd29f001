"""A loss surface as a file for ParaView and other readers of VTK: quadrilaterals with all splits' loss and accuracy.

The legacy format in its binary form: a text header, then numbers with the most significant byte first. It holds NaN
where the text form does not.
Source: The VTK User's Guide, "VTK file formats", simple legacy formats.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.checks import require
from landscape.interop.surface_mesh import corners, finite_cells, heights
from landscape.storage.atomic import replacing
from landscape.storage.results import Slice2D

Array = NDArray[Any]


def write_vtk(surface: Slice2D, path: str | Path, *, split: str = "train", scale: str = "log") -> Path:
    """Write the surface (x, y, z), z the loss of one split, with `SPLIT_loss` and `SPLIT_accuracy` at every point.

    Args:
        surface: of `slice_2d`, at least 2 points along each axis.
        path: ending in .vtk.
        split: whose loss is the height.
        scale: of the height: "log" (decimal logarithm) or "linear". The arrays are never scaled.
    Returns:
        The path.
    Raises:
        ValueError: if an argument is unknown, the grid too small, or no cell has four finite heights: a cell with a
            corner that is not finite is left open, and its points are written only where another cell needs them.
    """
    target = Path(path)
    require(target.suffix == ".vtk", f"path must end in .vtk, got {path}")
    z = heights(surface, split, scale)
    quads = corners(finite_cells(z))
    require(len(quads) > 0, "the surface has no cell with four finite corners; try another scale or range")
    used, quads = np.unique(quads, return_inverse=True)
    quads = quads.reshape(-1, 4)
    across, up = np.meshgrid(surface.x.cpu().numpy(), surface.y.cpu().numpy())
    points = np.stack([across.ravel(), up.ravel(), z.ravel()], axis=1)[used]
    content: list[str | Array] = [
        f"# vtk DataFile Version 3.0\nlandscape, height: {scale} {split} loss\nBINARY\nDATASET POLYDATA\n",
        f"POINTS {len(points)} double\n", points, f"\nPOLYGONS {len(quads)} {5 * len(quads)}\n",
        np.insert(quads, 0, 4, axis=1), f"\nPOINT_DATA {len(points)}\n",
    ]  # fmt: skip
    for what, of_split in (("loss", surface.loss), ("accuracy", surface.accuracy)):
        for name, values in of_split.items():
            content += [f"SCALARS {name.replace(' ', '_')}_{what} double 1\nLOOKUP_TABLE default\n"]
            content += [values.cpu().double().numpy().ravel()[used], "\n"]
    with replacing(target) as partial:
        partial.write_bytes(b"".join(_bytes(part) for part in content))
    return target


def _bytes(part: str | Array) -> bytes:
    if isinstance(part, str):
        return part.encode()
    return part.astype(">f8" if part.dtype.kind == "f" else ">i4").tobytes()
