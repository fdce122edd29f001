"""Many metrics of one checkpoint, with the work they have in common done once."""

from landscape.analysis.run import analyze

__all__ = ["analyze"]
