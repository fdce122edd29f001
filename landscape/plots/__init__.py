"""Figures: free functions `plot_x(result, ax=None) -> Axes`; the only place that imports matplotlib."""

from landscape.plots.animation import animate_trajectory
from landscape.plots.blocks import plot_block_spectra
from landscape.plots.metrics import plot_metric_against_gap, plot_tau_forest
from landscape.plots.slices import plot_slice_1d, plot_slice_2d
from landscape.plots.spectrum import plot_density
from landscape.plots.style import save_figure
from landscape.plots.training import plot_training
from landscape.plots.trajectory import plot_trajectory

__all__ = [
    "animate_trajectory",
    "plot_block_spectra",
    "plot_density",
    "plot_metric_against_gap",
    "plot_slice_1d",
    "plot_slice_2d",
    "plot_tau_forest",
    "plot_training",
    "plot_trajectory",
    "save_figure",
]
