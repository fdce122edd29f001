import sys

import numpy as np
import pytest
import torch
from cases import normal
from scipy import ndimage

import landscape as ls

STRUCTURES = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}
SURFACES = {
    "rough": normal(13, 9),
    "tied": (normal(12, 15, seed=1) * 2).round(),
    "with gaps": normal(11, 11, seed=2).where(normal(11, 11, seed=3) < 0.5, torch.nan),
    "infinite": normal(8, 8, seed=4).where(normal(8, 8, seed=5) < 1.0, torch.inf),
    "one row": normal(1, 20, seed=6),
    "flat": torch.zeros(5, 4, dtype=torch.float64),
}


def alive(found, level):
    return int(((found.birth <= level) & (found.death > level)).sum())


def levels(surface):
    return sorted(set(surface[surface.isfinite()].tolist()))


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("name", SURFACES)
def test_at_every_level_as_many_basins_live_as_the_sublevel_set_has_components(name, neighbours):
    surface = SURFACES[name]
    found = ls.persistence(surface, neighbours=neighbours)
    for level in levels(surface):
        _, count = ndimage.label((surface <= level).numpy(), STRUCTURES[neighbours])
        assert alive(found, level) == count


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("name", SURFACES)
def test_places_have_the_values_and_parents_are_deeper_basins_that_live_there(name, neighbours):
    surface = SURFACES[name]
    found = ls.persistence(surface, neighbours=neighbours)
    assert torch.equal(surface[found.minimum.unbind(1)], found.birth)
    dies = found.death.isfinite()
    assert torch.equal(surface[found.saddle[dies].unbind(1)], found.death[dies])
    assert (found.saddle[~dies] == -1).all()
    assert torch.equal(found.parent >= 0, dies)
    into = found.parent[dies]
    assert (into < dies.nonzero().flatten()).all()  # the longest-lived come first, and who takes up lives longer
    assert (found.birth[into] <= found.birth[dies]).all()
    assert (found.death[into] >= found.death[dies]).all()
    for row in dies.nonzero().flatten().tolist():
        places = found.saddle[row], found.minimum[row], found.minimum[found.parent[row]]
        saddle, own, other = (tuple(place.tolist()) for place in places)
        labels, _ = ndimage.label((surface <= surface[saddle]).numpy(), STRUCTURES[neighbours])
        assert labels[saddle] == labels[own] == labels[other]


def test_a_double_well_has_the_barrier_it_was_made_with():
    x = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)
    y = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64)
    surface = 5 * (x**2 - 1) ** 2 + 0.25 * x + 2 * y[:, None] ** 2  # wells beside x = ±1, a saddle beside x = 0
    line = 5 * (x**2 - 1) ** 2 + 0.25 * x
    low, high, saddle = line[:15].min(), line[16:].min(), line[10:21].max()
    found = ls.persistence(surface)
    torch.testing.assert_close(found.birth, torch.stack([low, high]))
    torch.testing.assert_close(found.death, torch.stack([torch.tensor(torch.inf).double(), saddle]))
    assert found.parent.tolist() == [-1, 0]
    assert found.minimum[:, 0].tolist() == [10, 10]
    assert (found.basins(), found.basins(4.0), found.basins(float(saddle - high))) == (2, 2, 1)


def test_basins_of_a_sum_of_functions_of_one_variable_multiply():
    f, g = torch.tensor([3.0, 0.0, 2.0, 1.0, 4.0]).double(), torch.tensor([0.5, 2.5, 0.0, 3.5, 1.0, 2.0]).double()
    found = ls.persistence(f + g[:, None], neighbours=4)  # 2 minima times 3
    assert len(found.birth) == 6
    # a pair (basin of f, basin of g) lives until the first of the two dies: f's die at ∞ and 2, g's at ∞, 2.5 and 3.5
    expected = {(0.0, np.inf), (0.5, 2.5), (1.0, 3.5), (1.0, 2.0), (1.5, 2.5), (2.0, 3.0)}
    assert set(zip(found.birth.tolist(), found.death.tolist(), strict=True)) == expected


def test_a_diagonal_valley_is_one_basin_with_eight_neighbours_and_falls_apart_with_four():
    surface = 1 - torch.eye(5, dtype=torch.float64)
    assert ls.persistence(surface).basins() == 1
    assert ls.persistence(surface, neighbours=4).basins() == 5


def test_regions_that_gaps_part_have_their_own_basins_that_never_die():
    surface = torch.tensor([[1.0, torch.nan, 0.0], [2.0, torch.inf, 3.0]]).double()
    found = ls.persistence(surface)
    assert found.birth.tolist() == [0.0, 1.0]
    assert found.death.isinf().all()
    assert found.minimum.tolist() == [[0, 2], [0, 0]]


def test_slices_and_maps_are_taken_by_split_and_value():
    surface = normal(4, 5)
    x, y = torch.arange(5.0), torch.arange(4.0)
    plane = ls.Slice2D(x, y, {"train": -surface, "test": surface}, {}, torch.ones(2), torch.zeros(()))
    expected = ls.persistence(surface).birth
    assert torch.equal(ls.persistence(plane, split="test").birth, expected)
    assert torch.equal(ls.persistence(ls.Map2D(x, y, surface, surface, "")).birth, expected)
    with pytest.raises(ValueError, match="split"):
        ls.persistence(plane, split="valid")


@pytest.mark.parametrize("dimension", [0, 1])
@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("name", SURFACES)
def test_gudhi_agrees(name, neighbours, dimension):
    gudhi = pytest.importorskip("gudhi")
    surface = SURFACES[name]
    values = surface.nan_to_num(torch.inf, torch.inf).numpy()
    cubes = gudhi.CubicalComplex(**{"vertices" if neighbours == 4 else "top_dimensional_cells": values})
    cubes.compute_persistence()
    expected = cubes.persistence_intervals_in_dimension(dimension).reshape(-1, 2)
    expected = expected[np.isfinite(expected[:, 0])]
    found = ls.persistence(surface, neighbours=neighbours, dimension=dimension)
    assert sorted(zip(found.birth.tolist(), found.death.tolist(), strict=True)) == sorted(map(tuple, expected.tolist()))


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("name", SURFACES)
def test_at_every_level_as_many_rings_live_as_the_sublevel_set_has_holes(name, neighbours):
    pytest.importorskip("gudhi")
    surface = SURFACES[name]
    found = ls.persistence(surface, neighbours=neighbours, dimension=1)
    for level in levels(surface):
        rest = np.pad(~(surface <= level).numpy(), 1, constant_values=True)
        _, count = ndimage.label(rest, STRUCTURES[12 - neighbours])  # what 8 neighbours join parts what 4 join
        assert alive(found, level) == count - 1
    assert torch.equal(surface[found.minimum.unbind(1)], found.birth)
    dies = found.death.isfinite()
    assert torch.equal(surface[found.saddle[dies].unbind(1)], found.death[dies])


def test_rings_without_gudhi_are_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gudhi", None)
    with pytest.raises(ImportError, match="landscape-toolkit\\[topology\\]"):
        ls.persistence(normal(3, 3), dimension=1)


def test_settings_are_checked(tmp_path):
    with pytest.raises(ValueError, match="neighbours"):
        ls.persistence(normal(3, 3), neighbours=6)
    with pytest.raises(ValueError, match="dimension"):
        ls.persistence(normal(3, 3), dimension=2)
    with pytest.raises(ValueError, match="grid"):
        ls.persistence(normal(3))
    with pytest.raises(ValueError, match="below infinity"):
        ls.persistence(torch.full((2, 2), torch.nan))
    found = ls.persistence(normal(3, 3))
    with pytest.raises(ValueError, match="threshold"):
        found.basins(-1.0)
    assert torch.equal(ls.Persistence.load(found.save(tmp_path / "bars")).death, found.death)
