"""What a figure shows, with its numbers, in words: the alternative text of results that are drawn."""

from landscape.storage.results import Slice1D, Slice2D, SpectralDensity
from landscape.storage.results.shown import span


def of_density(name: str, density: SpectralDensity) -> str:
    """The ends of a spectrum."""
    return f"{name}: eigenvalues from about {span(density.nodes)}."


def of_line(name: str, line: Slice1D, split: str = "train") -> str:
    """A loss at the network and at both ends."""
    values = line.loss[split]
    middle = int(line.x.abs().argmin())
    return (
        f"{name}: {float(values[middle]):.3g} at the network, {float(values[0]):.3g} at {float(line.x[0]):g} and "
        f"{float(values[-1]):.3g} at {float(line.x[-1]):+g}."
    )


def of_plane(name: str, plane: Slice2D, split: str = "train") -> str:
    """A loss at the network and its range over the plane."""
    values = plane.loss[split]
    middle = values[int(plane.y.abs().argmin()), int(plane.x.abs().argmin())]
    return f"{name}: {float(middle):.3g} at the network, {span(values)} over the plane."
