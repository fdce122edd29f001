"""Many checkpoints: does a metric follow the generalisation gap?"""

from typing import TYPE_CHECKING

from landscape.later import later
from landscape.study.statistics.comparison import level_with
from landscape.study.statistics.correlation import Correlation, correlate
from landscape.study.statistics.nested import NestedSelection, nested_selection

if TYPE_CHECKING:
    from landscape.study.config_file import read_study
    from landscape.study.network_record import Analysis, load_run
    from landscape.study.study_runner import StudyConfig, grid, run_study
else:  # they load pydantic and make its records
    __getattr__, __dir__ = later(
        __name__,
        {
            "Analysis": "network_record",
            "StudyConfig": "study_runner",
            "grid": "study_runner",
            "load_run": "network_record",
            "read_study": "config_file",
            "run_study": "study_runner",
        },
    )

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
