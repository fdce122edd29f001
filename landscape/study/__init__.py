"""Many checkpoints: does a metric follow the generalisation gap?"""

from landscape.study.statistics.comparison import level_with
from landscape.study.statistics.correlation import Correlation, correlate
from landscape.study.statistics.nested import NestedSelection, nested_selection

__all__ = ["Correlation", "NestedSelection", "correlate", "level_with", "nested_selection"]
