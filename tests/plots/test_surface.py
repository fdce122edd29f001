"""Surfaces in 3D, the page, compared planes and the look of Li et al.: what the artists hold, not pixels."""

import math
import sys
from functools import partial

import drawings
import numpy as np
import pytest
import torch
from drawings import bowl, drawn, texts
from matplotlib.colors import LogNorm, Normalize
from matplotlib.contour import QuadContourSet
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from landscape.plots import (
    interactive_surface,
    plot_slice_2d,
    plot_slices_2d,
    plot_surface,
    save_figure,
)
from landscape.plots.contours import LI2018

plane = partial(drawings.plane, nx=7, ny=4, y_end=0.5)


def faces_of(ax) -> tuple[np.ndarray, Poly3DCollection]:
    """The corners of all faces (cells, 4, 3), and the artist."""
    (faces,) = [c for c in ax.collections if isinstance(c, Poly3DCollection)]
    return np.stack([face[:4] for face in np.asarray(faces._faces)]), faces


def fill_of(ax) -> QuadContourSet:
    return next(c for c in ax.collections if isinstance(c, QuadContourSet) and c.filled)


# ------------------------------------------------------------------- surface


def test_a_surface_stands_over_a_grid_that_is_not_square():
    """Not transposed, not scrambled, no point skipped: each corner has the height of its own x and y."""
    ax = plot_surface(plane(lambda x, y: 1 + torch.exp(2 * x + 5 * y)))
    corners, _ = faces_of(ax)
    assert corners.shape == (6 * 3, 4, 3)
    x, y, z = np.moveaxis(corners, -1, 0)
    assert z == pytest.approx(np.log10(1 + np.exp(2 * x + 5 * y)))
    assert len({(a, b) for a, b in zip(x.ravel(), y.ravel(), strict=True)}) == 7 * 4
    drawn(ax.figure)


def test_a_surface_has_the_norm_and_levels_of_the_contours():
    result = plane(bowl, nx=9, ny=9, y_end=1.0)
    _, faces = faces_of(plot_surface(result))
    fill = fill_of(plot_slice_2d(result))
    assert isinstance(faces.norm, LogNorm)
    assert (faces.norm.vmin, faces.norm.vmax) == (fill.norm.vmin, fill.norm.vmax)
    assert faces.cmap == fill.cmap
    ticks = [float(text.get_text()) for text in plot_surface(result).get_zticklabels()]
    assert set(ticks) <= {float(f"{level:.3g}") for level in fill.levels}


def test_a_face_has_the_colour_of_its_corners_on_the_scale():
    for surface, mean in ((bowl, lambda z: np.exp(np.log(z).mean(1))), (lambda x, y: 5 + x + y, lambda z: z.mean(1))):
        corners, faces = faces_of(plot_surface(plane(surface)))
        x, y = torch.from_numpy(corners[..., 0]), torch.from_numpy(corners[..., 1])
        assert np.asarray(faces.get_array()) == pytest.approx(mean(surface(x, y).numpy()))


def test_a_surface_is_cut_off_where_the_contours_are_and_says_so():
    ax = plot_surface(plane(bowl), vmin=0.1, vmax=1.0)
    corners, faces = faces_of(ax)
    assert (corners[..., 2].min(), corners[..., 2].max()) == (-1.0, 0.0)
    assert {"clipped above 1", "clipped below 0.1"} <= set(texts(ax))
    assert np.asarray(faces.get_array()).max() > 1.0  # in the colour of what is above
    drawn(ax.figure)


def test_cells_with_a_corner_that_is_not_finite_are_left_open():
    result = plane(bowl)
    result.loss["train"][1, 2] = math.nan
    result.loss["train"][3, 6] = math.inf
    ax = plot_surface(result)
    corners, _ = faces_of(ax)
    assert len(corners) == 6 * 3 - 4 - 1
    assert np.isfinite(corners).all()
    assert "open: not finite" in texts(ax)
    drawn(ax.figure)


def test_a_surface_below_zero_is_linear():
    ax = plot_surface(plane(lambda x, y: bowl(x, y) - 2))
    corners, faces = faces_of(ax)
    assert type(faces.norm) is Normalize
    assert corners[..., 2].min() < 0


def test_the_pdf_of_a_surface_is_not_blank(tmp_path):
    """Without faces the file is a fraction of this one."""
    full, empty = (plot_surface(plane(bowl, nx=21, ny=11)) for _ in range(2))
    faces_of(empty)[1].remove()
    sizes = [
        save_figure(ax.figure, tmp_path / str(i), ("pdf",))[0].stat().st_size for i, ax in enumerate((full, empty))
    ]
    assert sizes[0] > sizes[1] + 20 * 10 * 10  # bytes a face, compressed


def test_wrong_surfaces_are_named():
    with pytest.raises(ValueError, match="ax must have projection='3d', got Axes"):
        plot_surface(plane(bowl), ax=plot_slice_2d(plane(bowl)))
    with pytest.raises(ValueError, match="slice must hold a finite train loss, got none"):
        plot_surface(plane(lambda x, y: x * math.nan))


# -------------------------------------------------------------------- panels


def test_compared_planes_share_one_scale_and_one_bar():
    slices = [plane(lambda x, y, f=f: f * bowl(x, y), nx=9, ny=5) for f in (1.0, 10.0)]
    figure = plot_slices_2d(slices, ["sgd", "sam"])
    one, two, bar = figure.axes
    levels = fill_of(one).levels
    assert np.array_equal(levels, fill_of(two).levels)
    assert (levels[0], levels[-1]) == (float(slices[0].loss["train"].min()), float(slices[1].loss["train"].max()))
    assert (bar.get_ylabel(), one.get_title(), two.get_title()) == (
        "train loss",
        "sgd: 0.01 at the star",
        "sam: 0.1 at the star",
    )
    drawn(figure)


def test_compared_planes_name_what_is_clipped_once():
    slices = [plane(bowl, nx=9, ny=5) for _ in range(4)]
    slices[1].loss["train"][0, 0] = math.nan
    figure = plot_slices_2d(slices, list("abcd"), vmin=0.02, vmax=2.0)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == [
        "not finite",
        "clipped above 2",
        "clipped below 0.02",
    ]
    assert len(figure.axes) == 5
    drawn(figure)


def test_compared_planes_need_a_name_each():
    with pytest.raises(ValueError, match="names must be one for each slice, got 1 for 2"):
        plot_slices_2d([plane(bowl)] * 2, ["sgd"])


# ---------------------------------------------------------------------- look


def test_the_look_of_li_has_its_levels_and_no_fill():
    ax = plot_slice_2d(plane(lambda x, y: 20 * (x**2 + y**2), nx=21, ny=21, y_end=1.0), style="li2018")
    (lines,) = [c for c in ax.collections if isinstance(c, QuadContourSet)]
    assert not lines.filled
    assert np.array_equal(lines.levels, LI2018)
    assert LI2018[[0, 1, -1]] == pytest.approx([0.1, 0.6, 9.6])
    assert "no lines above 9.6" in texts(ax)
    drawn(ax.figure)


def test_the_look_of_li_says_where_it_shows_nothing():
    ax = plot_slice_2d(plane(lambda x, y: 0.01 + 0.01 * x**2), style="li2018")
    assert "no line crossed: 0.01 to 0.02" in texts(ax)
    with pytest.raises(ValueError, match=r"style must be one of None \| 'li2018', got 'li'"):
        plot_slice_2d(plane(bowl), style="li")


# ---------------------------------------------------------------------- page


def test_a_page_shows_the_surface_on_the_same_scale():
    pytest.importorskip("plotly")
    result = plane(lambda x, y: torch.exp(2 * x + 5 * y))
    result.loss["train"][1, 2] = math.nan
    surface, *_ = interactive_surface(result).data
    loss = result.loss["train"].numpy()
    assert np.array_equal(np.asarray(surface.customdata), loss, equal_nan=True)  # the mouse tells the loss itself
    assert np.asarray(surface.z) == pytest.approx(np.log10(loss), nan_ok=True)
    assert (np.asarray(surface.x).shape, np.asarray(surface.y).shape, np.asarray(surface.z).shape) == (
        (7,),
        (4,),
        (4, 7),
    )
    _, faces = faces_of(plot_surface(result))
    assert (10**surface.cmin, 10**surface.cmax) == pytest.approx((faces.norm.vmin, faces.norm.vmax))


def test_without_plotly_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(ImportError, match=r"pip install 'landscape-toolkit\[interactive\]'"):
        interactive_surface(plane(bowl))
