import numpy as np
import pytest
import torch
from cases import normal
from drawings import texts
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import LogNorm, Normalize

import landscape as ls
from landscape.plots import plot_map, plot_merge_tree, plot_persistence


def of(values, errors=0.0) -> ls.Map2D:
    ny, nx = values.shape
    x, y = torch.linspace(-1, 1, nx).double(), torch.linspace(-0.5, 1, ny).double()
    return ls.Map2D(x, y, values, torch.full_like(values, errors), "|λmin / λmax|")


def cells(ax) -> QuadMesh:
    (found,) = [artist for artist in ax.collections if isinstance(artist, QuadMesh)]
    return found


def test_a_map_shows_every_value_at_its_place_and_hatches_what_is_not_finite():
    values = normal(3, 4)
    values[0, 1], values[2, 3] = torch.nan, torch.inf
    ax = plot_map(of(values, errors=0.02))
    ax.figure.draw_without_rendering()
    mesh = cells(ax)
    shown = np.ma.asarray(mesh.get_array()).reshape(3, 4)
    assert np.array_equal(shown.mask, ~values.isfinite().numpy())
    assert np.array_equal(shown.compressed(), values[values.isfinite()].numpy())
    edges = mesh.get_coordinates()  # (ny + 1, nx + 1, 2)
    centres = np.stack(np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-0.5, 1, 3)), -1)
    np.testing.assert_allclose((edges[:-1, :-1] + edges[1:, 1:]) / 2, centres)
    assert texts(ax) == ["the network", "not finite", "error at most 0.02"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x · d1", "y · d2")
    assert [other.get_ylabel() for other in ax.figure.axes if other is not ax] == ["|λmin / λmax|"]
    assert len(ax.patches) == 1


def test_colours_are_logarithmic_over_more_than_a_decade_and_shared_limits_are_kept():
    assert isinstance(cells(plot_map(of(torch.tensor([[0.1, 1.0], [3.0, 2.0]]).double()))).norm, LogNorm)
    norm = cells(plot_map(of(torch.tensor([[1e-9, 1.0], [0.05, 2.0]], dtype=torch.float64), errors=0.01))).norm
    assert (norm.vmin, norm.vmax) == (0.05, 2.0)  # 1e-9 is not known to be above 0
    norm = cells(plot_map(of(normal(2, 2)), vmin=-5, vmax=7)).norm
    assert type(norm) is Normalize
    assert (norm.vmin, norm.vmax) == (-5, 7)


def test_a_map_without_a_finite_value_or_of_one_value_is_drawn():
    for value in (torch.nan, 2.0):
        plot_map(of(torch.full((2, 2), value).double())).figure.draw_without_rendering()


def test_a_diagram_shows_births_and_deaths_and_what_never_dies():
    found = ls.persistence(normal(8, 8))
    ax = plot_persistence(found)
    ax.figure.draw_without_rendering()
    _, edge, dies, never = ax.lines
    assert np.array_equal(dies.get_xdata(), found.birth[1:].numpy())
    assert np.array_equal(dies.get_ydata(), found.death[1:].numpy())
    assert never.get_xdata().tolist() == [float(found.birth[0])]
    (top,), (line, _) = never.get_ydata(), edge.get_ydata()
    assert found.death[1:].max() < line < top < ax.get_ylim()[1]
    lines = ["minimum = saddle", "above: no height known"]
    assert texts(ax) == [*lines, f"{len(found.birth) - 1} flow into a deeper basin", "1 never does"]


@pytest.mark.parametrize("surface", [normal(9, 9), normal(9, 9).exp() ** 3, torch.ones(2, 2).double()])
def test_a_merge_tree_has_a_stem_for_each_basin_that_reaches_its_saddle_and_no_two_in_one_place(surface):
    found = ls.persistence(surface)
    ax = plot_merge_tree(found, top=7)
    ax.figure.draw_without_rendering()
    (stems,) = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    segments = np.array(stems.get_segments())  # (n, 2, 2)
    n = min(7, len(found.birth))
    assert len(segments) == n == len(set(segments[:, 0, 0]))
    assert np.array_equal(segments[:, 0, 1], found.birth[:n].numpy())
    assert np.array_equal(segments[1:, 1, 1], found.death[1:n].numpy())
    joins = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert len(joins) == n - 1
    for row, join in enumerate(joins, start=1):
        assert list(join.get_ydata()) == [segments[row, 1, 1]] * 2
        assert list(join.get_xdata()) == [segments[row, 0, 0], segments[int(found.parent[row]), 0, 0]]


def test_settings_are_checked():
    with pytest.raises(ValueError, match="at least 2"):
        plot_map(of(torch.ones(1, 3).double()))
    with pytest.raises(ValueError, match="vmin"):
        plot_map(of(normal(2, 2)), vmin=1.0, vmax=0.0)
    found = ls.persistence(normal(3, 3))
    empty = ls.Persistence(*(getattr(found, name)[:0] for name in ("birth", "death", "minimum", "saddle", "parent")), 1)
    with pytest.raises(ValueError, match="at least one"):
        plot_persistence(empty)
    with pytest.raises(ValueError, match="dimension 0"):
        plot_merge_tree(empty)
    with pytest.raises(ValueError, match="top"):
        plot_merge_tree(found, top=0)
