import pytest
import torch
from cases import make, normal
from snapshots import recorded

from landscape.slices import pca_directions


@pytest.fixture
def small_pieces(monkeypatch):
    """The vector is read in several pieces, the last one shorter."""
    monkeypatch.setattr("landscape.slices.directions.trajectory_pca.SMALLEST", 7)
    monkeypatch.setattr("landscape.slices.directions.trajectory_pca.VECTORS", 0)


def test_a_planted_plane_is_found_with_its_variances(tmp_path, small_pieces):
    basis = torch.linalg.qr(normal(51, 2))[0].T  # (2, P)
    angles = torch.linspace(0, torch.pi, 12, dtype=torch.float64)[:, None]
    ellipse = torch.cat([3 * angles.cos(), 2 * angles.sin()], dim=1)
    problem, recorder = recorded(tmp_path, ellipse @ basis)
    directions, explained = pca_directions(problem, recorder)
    spread = ellipse.square().sum(0)  # cos · sin is odd over the half turn: the axes are the principal ones
    order = spread.argsort(descending=True)
    torch.testing.assert_close(explained, spread[order] / spread.sum(), rtol=1e-12, atol=0.0)
    torch.testing.assert_close((torch.stack(list(directions)) @ basis[order].T).abs(), torch.eye(2).double())
    assert directions.details["explained"] == explained.tolist()
    with pytest.raises(ValueError, match="must span 3 directions"):
        pca_directions(problem, recorder, 3)


@pytest.mark.parametrize("parameters", [None, ["2.weight"]])
def test_they_are_the_singular_vectors_about_the_network(tmp_path, small_pieces, parameters):
    size = make("mlp").problem(parameters=parameters).size
    offsets = normal(6, size) + 2 * normal(size, seed=1)  # far from their mean
    problem, _ = recorded(tmp_path, offsets, parameters)
    directions, explained = pca_directions(problem, tmp_path, 3)
    _, singular, rows = torch.linalg.svd(offsets, full_matrices=False)
    torch.testing.assert_close(explained, (singular.square() / singular.square().sum())[:3])
    found = torch.stack(list(directions))
    torch.testing.assert_close((found @ rows[:3].T).abs(), torch.eye(3, dtype=torch.float64))
    assert bool((found @ offsets[0] >= 0).all())


def test_the_number_of_pieces_changes_nothing(tmp_path, monkeypatch):
    problem, recorder = recorded(tmp_path, normal(6, 51))
    whole, _ = pca_directions(problem, recorder)
    monkeypatch.setattr("landscape.slices.directions.trajectory_pca.SMALLEST", 10)
    monkeypatch.setattr("landscape.slices.directions.trajectory_pca.VECTORS", 0)
    for a, b in zip(whole, pca_directions(problem, recorder)[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
