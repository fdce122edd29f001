import sys

import numpy as np
import pytest
import torch
from cases import make, normal

import landscape as ls
from landscape.interop.goldstein import read_directions, read_surface, write_directions, write_surface


def plane() -> ls.Slice2D:
    loss = {"train": normal(3, 5).exp(), "test": normal(3, 5, seed=1).exp()}
    loss["test"][1, 2] = torch.nan
    accuracy = {"train": torch.rand(3, 5, dtype=torch.float64), "test": torch.full((3, 5), torch.nan).double()}
    x, y = torch.linspace(-1, 1, 5).double(), torch.linspace(0, 1, 3).double()
    return ls.Slice2D(x, y, loss, accuracy, torch.ones(2).double(), torch.zeros(()).double())


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-15, atol=0.0, equal_nan=True)


def test_a_plane_comes_back_as_it_went(tmp_path):
    pytest.importorskip("h5py")
    surface = plane()
    found = read_surface(write_surface(surface, tmp_path / "a" / "plane.h5"))
    assert isinstance(found, ls.Slice2D)
    assert torch.equal(found.x, surface.x)
    assert torch.equal(found.y, surface.y)
    equal(found.loss, surface.loss)
    equal(found.accuracy, surface.accuracy)
    assert found.norms.isnan().all()
    assert found.cosine.isnan()


def test_a_line_comes_back_as_a_line(tmp_path):
    pytest.importorskip("h5py")
    line = ls.Slice1D(torch.linspace(-1, 1, 4).double(), {"train": normal(4)}, {"train": normal(4, seed=1)})
    found = read_surface(write_surface(line, tmp_path / "line.h5"))
    assert isinstance(found, ls.Slice1D)
    equal(found.loss, line.loss)


def test_what_is_written_has_their_names_percents_and_the_shape_their_contours_need(tmp_path):
    h5py = pytest.importorskip("h5py")
    surface = plane()
    with h5py.File(write_surface(surface, tmp_path / "plane.h5", direction_file="directions.h5")) as file:
        assert file["dir_file"].asstr()[()] == "directions.h5"
        assert file["train_loss"].shape == (len(file["ycoordinates"]), len(file["xcoordinates"])) == (3, 5)
        assert file["train_loss"][2, 4] == surface.loss["train"][2, 4]
        np.testing.assert_allclose(file["train_acc"][:], 100 * surface.accuracy["train"].numpy())


def their_walk(file, function, computed) -> None:
    """As their code fills a file: points of the meshgrid one after the other into a flat view of an (nx, ny) array."""
    x, y = np.linspace(-1, 1, 4), np.linspace(-0.5, 1, 3)
    across, up = np.meshgrid(x, y)
    losses, percents = -np.ones((4, 3)), -np.ones((4, 3))
    for index in range(computed):
        losses.ravel()[index] = function(across.ravel()[index], up.ravel()[index])
        percents.ravel()[index] = 90.0
    file["dir_file"] = "some/directions.h5"
    file["xcoordinates"], file["ycoordinates"] = x, y
    file["train_loss"], file["train_acc"] = losses, percents


def test_a_file_of_theirs_that_is_not_square_and_not_finished_is_read_as_they_walked_it(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        their_walk(file, lambda x, y: x + 10 * y - 1, computed=10)
    found = read_surface(tmp_path / "theirs.h5")
    expected = found.x + 10 * found.y[:, None] - 1
    expected[2, 2:] = torch.nan
    torch.testing.assert_close(found.loss["train"], expected, equal_nan=True)
    accuracy = torch.full((3, 4), 0.9).double().where(~expected.isnan(), torch.nan)
    torch.testing.assert_close(found.accuracy["train"], accuracy, equal_nan=True)


def test_a_loss_of_minus_one_with_an_accuracy_was_computed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "line.h5", "w") as file:
        file["xcoordinates"], file["test_loss"], file["test_acc"] = [0.0, 1.0], [-1.0, -1.0], [50.0, -1.0]
        file["train_loss"] = [-1.0, 2.0]
    found = read_surface(tmp_path / "line.h5")
    nan = torch.nan
    for values, test, train in ((found.loss, [-1, nan], [nan, 2]), (found.accuracy, [0.5, nan], [nan, nan])):
        equal(values, {"test": torch.tensor(test).double(), "train": torch.tensor(train).double()})


def test_directions_come_back_and_lie_in_the_file_as_the_parameters_do(tmp_path):
    h5py = pytest.importorskip("h5py")
    problem = make("conv_bn").problem()
    directions = ls.random_directions(problem)
    path = write_directions(problem, directions, tmp_path / "directions.h5")
    for own, read in zip(directions, read_directions(problem, path), strict=True):
        assert torch.equal(own, read)
    with h5py.File(path) as file:
        for name, direction in zip(("xdirection", "ydirection"), directions, strict=True):
            written = [torch.from_numpy(file[name][str(i)][()]) for i in range(len(file[name]))]
            assert [p.shape for p in written] == [p.shape for p in problem.model.parameters()]
            assert torch.equal(torch.cat([p.flatten() for p in written]), direction)


class Scaled(torch.nn.Linear):
    """With a parameter that has no axes."""

    def __init__(self):
        super().__init__(3, 2, dtype=torch.float64)
        self.scale = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))


def test_a_parameter_without_axes_comes_back_and_buffers_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    problem = ls.Problem(Scaled(), torch.nn.functional.cross_entropy, [(normal(4, 3), torch.arange(4) % 2)])
    direction = normal(problem.size)
    (read,) = read_directions(problem, write_directions(problem, [direction], tmp_path / "own.h5"))
    assert torch.equal(read, direction)
    problem = make("conv_bn").problem()
    with h5py.File(tmp_path / "states.h5", "w") as file:
        for index, tensor in enumerate(problem.model.state_dict().values()):
            file[f"xdirection/{index}"] = tensor.numpy()
    with pytest.raises(ValueError, match="must have the parameters' shapes"):
        read_directions(problem, tmp_path / "states.h5")


def test_a_file_that_claims_huge_arrays_is_refused_before_memory_is_taken(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("xdirection/0", (10**13,), "f4", chunks=(1000,))
    with pytest.raises(ValueError, match="xdirection/0 claims 40000000000000 bytes, more than the file can hold"):
        read_directions(make("mlp").problem(), tmp_path / "huge.h5")


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    h5py = pytest.importorskip("h5py")
    problem = make("mlp").problem()
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match="readable HDF5"):
        read_surface(tmp_path / "text.h5")
    with h5py.File(tmp_path / "short.h5", "w") as file:
        file["xcoordinates"], file["train_loss"] = [0.0, 1.0], [1.0]
    with pytest.raises(ValueError, match="2 numbers"):
        read_surface(tmp_path / "short.h5")
    with pytest.raises(ValueError, match="xdirection"):
        read_directions(problem, tmp_path / "short.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["xdirection/0"] = [0.0, 1.0]
    with pytest.raises(ValueError, match="shapes"):
        read_directions(problem, tmp_path / "other.h5")
    with pytest.raises(ValueError, match="xcoordinates"):
        read_surface(tmp_path / "other.h5")
    with pytest.raises(ValueError, match="one or two"):
        write_directions(problem, [], tmp_path / "none.h5")


def test_without_h5py_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="landscape-toolkit\\[hdf5\\]"):
        write_surface(plane(), tmp_path / "plane.h5")
