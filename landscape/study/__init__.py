"""Many checkpoints: does a metric follow the generalisation gap?"""

from landscape.study.config_file import read_study
from landscape.study.network_record import Analysis, load_run
from landscape.study.statistics.comparison import level_with
from landscape.study.statistics.correlation import Correlation, correlate
from landscape.study.statistics.nested import NestedSelection, nested_selection
from landscape.study.study_runner import StudyConfig, grid, run_study

__all__ = [
    # the study
    "Analysis",
    "StudyConfig",
    "grid",
    "load_run",
    "read_study",
    "run_study",
    # its statistics
    "Correlation",
    "NestedSelection",
    "correlate",
    "level_with",
    "nested_selection",
]
