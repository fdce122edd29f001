"""Figures: free functions `plot_x(result, ax=None) -> Axes`; the only place that imports matplotlib."""

from landscape.plots.animation import animate_trajectory
from landscape.plots.attention import plot_attention
from landscape.plots.bands import plot_band
from landscape.plots.blocks import plot_block_spectra
from landscape.plots.captions import add_caption, caption
from landscape.plots.estimates import plot_eigenvalues, plot_estimates
from landscape.plots.interactive import interactive_surface, save_interactive
from landscape.plots.live import LiveFigure
from landscape.plots.maps import plot_map
from landscape.plots.metric_maps import plot_psi, plot_ranks
from landscape.plots.metrics import plot_metric_against_gap, plot_tau_forest
from landscape.plots.planes import plot_slice_2d, plot_slices_2d
from landscape.plots.seeds import plot_seeds
from landscape.plots.slices import plot_slice_1d
from landscape.plots.spectrum import plot_density
from landscape.plots.style import save_figure, save_with_data
from landscape.plots.surface import plot_surface
from landscape.plots.topology import plot_merge_tree, plot_persistence
from landscape.plots.training import plot_diagnostics, plot_training
from landscape.plots.trajectory import plot_trajectory

__all__ = [
    "LiveFigure",
    "add_caption",
    "caption",
    "interactive_surface",
    "plot_attention",
    "plot_band",
    "animate_trajectory",
    "plot_block_spectra",
    "plot_density",
    "plot_diagnostics",
    "plot_eigenvalues",
    "plot_estimates",
    "plot_map",
    "plot_merge_tree",
    "plot_metric_against_gap",
    "plot_persistence",
    "plot_psi",
    "plot_ranks",
    "plot_seeds",
    "plot_slice_1d",
    "plot_slice_2d",
    "plot_slices_2d",
    "plot_surface",
    "plot_tau_forest",
    "plot_training",
    "plot_trajectory",
    "save_figure",
    "save_interactive",
    "save_with_data",
]
