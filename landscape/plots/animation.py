"""A training run as a moving picture: its line grows over the contours of a plane."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure

from landscape.checks import integer_in, one_of, require
from landscape.plots.planes import plot_slice_2d
from landscape.plots.style import STYLE
from landscape.plots.trajectory import draw_markers
from landscape.storage.atomic import replacing
from landscape.storage.results import Slice2D, Trajectory


def animate_trajectory(
    slice: Slice2D,
    trajectory: Trajectory,
    path: str | Path,
    split: str = "train",
    *,
    frames: int = 60,
    fps: int = 12,
    dpi: int = 80,
) -> Path:
    """Write a GIF of the run over the plane, with step, true loss and distance from the plane above it.

    Args:
        slice: the plane, of `slice_2d`.
        trajectory: of `project_trajectory`, along the same two directions.
        path: where to, ending in .gif.
        split: whose loss, of the plane and of the run.
        frames: at most so many, evenly spaced over the snapshots, the last one among them.
        fps: frames a second; the last one stays for a second.
        dpi: dots per inch of a figure of 4.6 x 4.2 inches.
    Returns:
        The path.
    Raises:
        ValueError: if the split is unknown, or the path does not end in .gif.
    """
    one_of("split", split, tuple(trajectory.loss))
    integer_in("frames", frames, 1)
    integer_in("fps", fps, 1)
    target = Path(path)
    require(target.suffix == ".gif", f"path must end in .gif, got {target.name}")
    count = len(trajectory.steps)
    shown = np.unique(np.linspace(0, count - 1, min(frames, count)).round().astype(int)).tolist()
    x, y = trajectory.coordinates.numpy().T
    loss = trajectory.loss[split].numpy()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.2), layout="compressed")
        ax = plot_slice_2d(slice, split, figure.add_subplot())
        (line,) = ax.plot([], [], color="black", linewidth=1.2, zorder=3)
        head = draw_markers(ax, x[:1], y[:1], loss[:1])
        title = figure.suptitle(_words(trajectory, 0, loss[0]), fontsize=9.0, family="monospace")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once: nothing jumps between frames
        writer = PillowWriter(fps=fps)
        with replacing(target) as partial, writer.saving(figure, str(partial), dpi):
            for index in shown + [count - 1] * fps:
                line.set_data(x[: index + 1], y[: index + 1])
                head.set_offsets([(x[index], y[index])])
                head.set_array(loss[index : index + 1])
                title.set_text(_words(trajectory, index, loss[index]))
                writer.grab_frame()
    return target


def _words(trajectory: Trajectory, index: int, loss: float) -> str:
    """Of constant width, so that the text stands still."""
    return (
        f"step {int(trajectory.steps[index]):6d}   loss {loss:9.4f}   off the plane {trajectory.off_plane[index]:7.3f}"
    )
