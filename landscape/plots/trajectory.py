"""A training run over the contours of a plane: markers in the colours of the contours, by the loss the run really had.

Where a marker's colour differs from the ground, the run was off the plane; how far off is printed.
Source: Li et al. 2018, section 7, arXiv:1712.09913.
"""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from landscape.checks import one_of
from landscape.plots.planes import plot_slice_2d
from landscape.plots.style import GREY, SMALL
from landscape.storage.results import Slice2D, Trajectory

MARKERS = 80  # at most so many in a figure; the line has all points


def plot_trajectory(slice: Slice2D, trajectory: Trajectory, split: str = "train", ax: Axes | None = None) -> Axes:
    """The run's line over the plane's loss, markers by its own loss.

    Args:
        slice: the plane, of `slice_2d`.
        trajectory: of `project_trajectory`, along the same two directions.
        split: whose loss, of the plane and of the run.
        ax: where to draw; default a new figure.
    Returns:
        The axes. Under the plane: the largest distance of the run from it, and how much of the run's spread its axes
        hold.
    Raises:
        ValueError: if the split is unknown.
    """
    one_of("split", split, tuple(trajectory.loss))
    ax = plot_slice_2d(slice, split, ax)
    x, y = trajectory.coordinates.numpy().T
    every = max(1, len(x) // MARKERS)
    ax.plot(x, y, color="white", linewidth=2.2, zorder=3)
    ax.plot(x, y, color="black", linewidth=0.9, zorder=3)
    draw_markers(ax, x[::every], y[::every], trajectory.loss[split].numpy()[::every])
    ax.add_line(Line2D([x[0]], [y[0]], marker="s", ms=6, mfc="none", mec="black", ls="", zorder=5))
    left = x[0] < sum(ax.get_xlim()) / 2
    beside: dict[str, Any] = {"xytext": (6 if left else -6, 6), "ha": "left" if left else "right"}
    ax.annotate("start", (x[0], y[0]), textcoords="offset points", fontsize=SMALL, zorder=5, **beside)
    below: dict[str, Any] = {"xytext": (0, -34), "textcoords": "offset points", "va": "top"}
    ax.annotate(words_off_plane(trajectory), (0, 0), xycoords="axes fraction", fontsize=SMALL, color=GREY, **below)
    return ax


def draw_markers(ax: Axes, x: NDArray[Any], y: NDArray[Any], loss: NDArray[Any]) -> Any:
    """Points in the colours of the contours that `ax` has."""
    ground = next((own for own in ax.collections if isinstance(own, ContourSet)), None)
    colours: dict[str, Any] = {} if ground is None else {"norm": ground.norm, "cmap": ground.cmap}
    return ax.scatter(x, y, c=loss, s=16, edgecolors="black", linewidths=0.4, zorder=4, **colours)


def words_off_plane(trajectory: Trajectory) -> str:
    """How far the run left the plane, and what the plane holds of it."""
    far = int(trajectory.off_plane.argmax())
    one, two = (100 * trajectory.explained).tolist()
    return (
        "Marks: the run's own loss, in the plane's colours;\n"
        f"it is at most {trajectory.off_plane[far]:.3g} off the plane, {trajectory.distance[far]:.3g} from the star.\n"
        f"The axes hold {one:.0f} % and {two:.0f} % of its spread."
    )
