"""Figures: free functions `plot_x(result, ax=None) -> Axes`; the only place that imports matplotlib."""
