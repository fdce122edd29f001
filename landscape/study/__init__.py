"""Many checkpoints: does a metric follow the generalisation gap?"""

from landscape.study.correlation import Correlation, correlate

__all__ = ["Correlation", "correlate"]
