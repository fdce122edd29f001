"""Planes to draw, and what an artist shows."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.storage.results import Slice2D


def plane(z, nx: int = 9, ny: int = 7, y_end: float = 1.0, norms=(2.0, 3.0), cosine: float = 0.0) -> Slice2D:
    """z: a function of the grid's x and y."""
    x = torch.linspace(-1, 1, nx, dtype=torch.float64)
    y = torch.linspace(-y_end, y_end, ny, dtype=torch.float64)
    loss = z(x[None, :].expand(ny, nx), y[:, None].expand(ny, nx)).clone()
    return Slice2D(x, y, {"train": loss}, {}, torch.tensor(norms), torch.tensor(cosine))


def bowl(x, y):
    return 0.01 + 3 * (x**2 + y**2)


def texts(ax: Axes) -> list[str]:
    """The legend's entries."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def drawn(figure: Figure) -> None:
    """Lay the figure out and draw it, as saving does: whatever warns is an error here."""
    figure.draw_without_rendering()
