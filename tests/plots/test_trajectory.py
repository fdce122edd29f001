import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.contour import QuadContourSet
from PIL import Image

from landscape.plots import animate_trajectory, plot_trajectory
from landscape.storage.results import Slice2D, Trajectory


def plane() -> Slice2D:
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    y = torch.linspace(-1, 1, 7, dtype=torch.float64)
    loss = 0.1 + x**2 + 3 * y[:, None] ** 2
    one = torch.tensor([1.0, 1.0], dtype=torch.float64)
    return Slice2D(x, y, {"train": loss}, {"train": loss * torch.nan}, one, torch.tensor(0.0))


def run(count: int = 5) -> Trajectory:
    s = torch.linspace(1, 0, count, dtype=torch.float64)
    return Trajectory(
        steps=10 * torch.arange(count),
        coordinates=torch.stack([0.8 * s, -0.5 * s], dim=1),
        off_plane=0.25 * s,
        distance=2 * s,
        loss={"train": 0.1 + 2 * s},
        explained=torch.tensor([0.9, 0.06], dtype=torch.float64),
    )


def test_markers_have_the_runs_own_loss_on_the_scale_of_the_ground():
    ax = plot_trajectory(plane(), run())
    (ground,) = [own for own in ax.collections if isinstance(own, QuadContourSet) and own.filled]
    (markers,) = [own for own in ax.collections if isinstance(own, PathCollection)]
    assert markers.norm is ground.norm
    assert markers.cmap is ground.cmap
    assert np.array_equal(markers.get_array(), run().loss["train"].numpy())
    assert np.array_equal(markers.get_offsets(), run().coordinates.numpy())
    ax.figure.draw_without_rendering()


def test_the_distance_from_the_plane_and_what_it_holds_are_printed():
    note = next(text.get_text() for text in plot_trajectory(plane(), run()).texts if "spread" in text.get_text())
    assert note.endswith("at most 0.25 off the plane, 2 from the star.\nThe axes hold 90 % and 6 % of its spread.")


def test_a_long_run_has_few_markers_and_its_whole_line():
    ax = plot_trajectory(plane(), run(1000))
    (markers,) = [own for own in ax.collections if isinstance(own, PathCollection)]
    assert len(markers.get_offsets()) <= 100
    assert 1000 in [len(line.get_xdata()) for line in ax.lines]


def test_the_animation_has_a_frame_for_each_snapshot_and_ends_with_the_last(tmp_path):
    path = animate_trajectory(plane(), run(), tmp_path / "run.gif", fps=2, dpi=40)
    assert [file.name for file in tmp_path.iterdir()] == ["run.gif"]
    with Image.open(path) as picture:
        durations = []
        for index in range(picture.n_frames):
            picture.seek(index)
            durations.append(picture.info["duration"])
        first, last = (np.array(_frame(picture, index)) for index in (0, picture.n_frames - 1))
    assert sum(durations) == (5 + 2) * 500
    assert (first != last).any()


def _frame(picture, index):
    picture.seek(index)
    return picture.convert("RGB")


def test_frames_are_thinned_but_the_last_is_kept(tmp_path):
    path = animate_trajectory(plane(), run(50), tmp_path / "run.gif", frames=4, fps=1, dpi=40)
    with Image.open(path) as picture:
        assert picture.n_frames <= 5


def test_wrong_names_are_told():
    with pytest.raises(ValueError, match="split must be one of 'train', got 'test'"):
        plot_trajectory(plane(), run(), "test")
    with pytest.raises(ValueError, match="path must end in"):
        animate_trajectory(plane(), run(), "run.mp4")
