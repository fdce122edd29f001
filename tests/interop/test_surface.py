"""Surfaces written for ParaView (VTK) and for printers (STL), read back here from the formats' descriptions."""

import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import normal

import landscape as ls
from landscape.interop.stl import write_stl
from landscape.interop.vtk import write_vtk


def plane(loss: torch.Tensor, x=(-1.0, 1.0), y=(0.0, 3.0)) -> ls.Slice2D:
    ny, nx = loss.shape
    axes = (torch.linspace(*span, n, dtype=torch.float64) for span, n in ((x, nx), (y, ny)))
    test = loss + 1
    test[0, 0] = torch.nan
    split = {"train": loss, "test": test}
    return ls.Slice2D(*axes, split, {"train": loss / 10}, torch.ones(2), torch.zeros(()))


# ----------------------------------------------------------------------- VTK


def read_vtk(path: Path):
    """Points (n, 3), faces as lists of indices, and the arrays of a legacy binary polygon file."""
    data, at = path.read_bytes(), 0

    def line() -> str:
        nonlocal at
        end = data.index(b"\n", at)
        text, at = data[at:end].decode(), end + 1
        return text

    def numbers(kind: str, count: int):
        nonlocal at
        values = struct.unpack_from(f">{count}{kind}", data, at)
        at += count * struct.calcsize(kind)
        return values

    assert line() == "# vtk DataFile Version 3.0"
    title, form, kind = line(), line(), line()
    assert len(title) < 256
    assert (form, kind) == ("BINARY", "DATASET POLYDATA")
    word, count, what = line().split()
    assert (word, what) == ("POINTS", "double")
    n = int(count)
    points = np.array(numbers("d", 3 * n)).reshape(n, 3)
    assert line() == ""
    word, faces, size = line().split()
    assert word == "POLYGONS"
    cells = np.array(numbers("i", int(size))).reshape(int(faces), -1)
    assert (cells[:, 0] == cells.shape[1] - 1).all()
    assert line() == ""
    assert line() == f"POINT_DATA {n}"
    arrays = {}
    while at < len(data):
        word, name, what, components = line().split()
        assert (word, what, components) == ("SCALARS", "double", "1")
        assert line() == "LOOKUP_TABLE default"
        arrays[name] = np.array(numbers("d", n))
        assert line() == ""
    return points, cells[:, 1:], arrays


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_vtk_holds_every_point_in_its_place_with_all_arrays(scale, tmp_path):
    loss = normal(4, 3).exp()
    surface = plane(loss)
    points, faces, arrays = read_vtk(write_vtk(surface, tmp_path / "a" / "surface.vtk", scale=scale))
    assert points.shape == (12, 3)
    assert faces.shape == (6, 4)
    at = {(x, y): (z, i) for i, (x, y, z) in enumerate(points.tolist())}
    for j, y in enumerate(surface.y.tolist()):
        for i, x in enumerate(surface.x.tolist()):
            z, index = at[x, y]
            assert z == (np.log10(float(loss[j, i])) if scale == "log" else loss[j, i])
            assert arrays["train_loss"][index] == loss[j, i]
            assert arrays["train_accuracy"][index] == loss[j, i] / 10
    assert np.isnan(arrays["test_loss"]).sum() == 1
    corners = points[faces]
    along, up = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
    np.testing.assert_allclose(along[:, 0] * up[:, 1] - along[:, 1] * up[:, 0], 1.0)  # every cell once, seen from above


def test_vtk_leaves_cells_open_that_have_a_corner_without_a_height(tmp_path):
    loss = torch.ones(4, 4, dtype=torch.float64)
    loss[0, 0], loss[3, 1] = torch.nan, -1.0  # no logarithm
    surface = plane(loss)
    points, faces, _ = read_vtk(write_vtk(surface, tmp_path / "s.vtk"))
    assert (len(points), len(faces)) == (16 - 2 - 1, 9 - 1 - 2)
    assert np.isfinite(points).all()
    points, faces, _ = read_vtk(write_vtk(surface, tmp_path / "s.vtk", scale="linear"))
    assert (len(points), len(faces)) == (15, 8)
    assert set(points[:, 2]) == {1.0, -1.0}


# ----------------------------------------------------------------------- STL


def read_stl(path: Path):
    """Normals (n, 3) and corners (n, 3, 3)."""
    data = path.read_bytes()
    (count,) = struct.unpack_from("<I", data, 80)
    assert len(data) == 84 + 50 * count
    rows = np.array([struct.unpack_from("<12f", data, 84 + 50 * i) for i in range(count)], dtype=float)
    return rows[:, :3], rows[:, 3:].reshape(-1, 3, 3)


def closed(triangles) -> None:
    """Each edge belongs to two triangles that run along it in opposite directions; none has two equal corners."""
    edges = Counter()
    for triangle in triangles.tolist():
        a, b, c = (tuple(corner) for corner in triangle)
        assert len({a, b, c}) == 3
        edges.update([(a, b), (b, c), (c, a)])
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)


def volume(triangles) -> float:
    """By the divergence theorem; positive where the triangles face outwards."""
    return float(np.einsum("ni,ni->n", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum() / 6)


def test_stl_of_a_plane_is_closed_and_has_the_volume_of_its_mean_height(tmp_path):
    x, y = torch.linspace(-1, 1, 5).double(), torch.linspace(0, 3, 4).double()
    surface = plane(2 + x + 0.5 * y[:, None])
    normals, triangles = read_stl(
        write_stl(surface, tmp_path / "a" / "s.stl", scale="linear", size=60, height=20, base=5)
    )
    closed(triangles)
    extent = triangles.reshape(-1, 3).max(0) - triangles.reshape(-1, 3).min(0)
    np.testing.assert_allclose(extent, (40, 60, 25), rtol=1e-6)
    assert volume(triangles) == pytest.approx(40 * 60 * (5 + 20 / 2), rel=1e-6)
    areas = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    np.testing.assert_allclose(normals, areas / np.linalg.norm(areas, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_stl_with_holes_is_closed(seed, tmp_path):
    gaps = normal(9, 12, seed=seed + 10) > 1.0
    surface = plane(normal(9, 12, seed=seed).exp().where(~gaps, torch.nan))
    _, triangles = read_stl(write_stl(surface, tmp_path / "s.stl"))
    closed(triangles)
    assert volume(triangles) > 0


def test_stl_parts_cells_that_touch_in_a_corner_only(tmp_path):
    loss = torch.arange(1.0, 26.0).double().reshape(5, 5)
    loss[1, 3] = loss[3, 1] = torch.nan  # leaves the cells at two opposite corners of the grid, and a diagonal between
    _, triangles = read_stl(write_stl(plane(loss), tmp_path / "s.stl"))
    closed(triangles)


def test_stl_cuts_what_is_above_vmax(tmp_path):
    loss = torch.ones(3, 3, dtype=torch.float64)
    loss[1, 1], loss[0, 0] = 1e9, 10.0
    for scale in ("log", "linear"):
        _, triangles = read_stl(write_stl(plane(loss), tmp_path / "s.stl", scale=scale, vmax=10.0, height=40, base=3))
        highest = triangles.reshape(-1, 3)[triangles.reshape(-1, 3)[:, 2] > 42.99]
        assert len(set(map(tuple, highest.tolist()))) == 2


def test_stl_of_a_flat_loss_is_a_plate(tmp_path):
    _, triangles = read_stl(write_stl(plane(torch.ones(3, 3).double(), y=(-1, 1)), tmp_path / "s.stl", size=10, base=2))
    closed(triangles)
    assert volume(triangles) == pytest.approx(10 * 10 * 2, rel=1e-6)


@pytest.mark.parametrize(("write", "suffix"), [(write_vtk, "vtk"), (write_stl, "stl")])
def test_settings_are_checked(write, suffix, tmp_path):
    path, surface = tmp_path / f"s.{suffix}", plane(torch.ones(3, 3).double())
    for word, call in {
        "split": lambda: write(surface, path, split="valid"),
        "scale": lambda: write(surface, path, scale="cubic"),
        suffix: lambda: write(surface, tmp_path / "s.txt"),
        "at least 2": lambda: write(plane(torch.ones(1, 3).double()), path),
        "no cell": lambda: write(plane(-torch.ones(3, 3).double()), path),
    }.items():
        with pytest.raises(ValueError, match=word):
            call()
    assert not path.exists()


@pytest.mark.parametrize("name", ["size", "height", "base", "vmax"])
def test_lengths_are_positive(name, tmp_path):
    with pytest.raises(ValueError, match=name):
        write_stl(plane(torch.ones(3, 3).double()), tmp_path / "s.stl", **{name: 0.0})
