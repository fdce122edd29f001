"""One self-contained HTML page of a study, with its figures and table."""

from landscape.report.study import report_study

__all__ = ["report_study"]
