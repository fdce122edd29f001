"""Surfaces to turn around: a figure of plotly's, and a page that needs nothing."""

from landscape.plots.interactive.figure import interactive_surface
from landscape.plots.interactive.page import save_interactive

__all__ = ["interactive_surface", "save_interactive"]
