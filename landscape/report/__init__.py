"""Self-contained HTML pages: of a study, and of one network."""

from landscape.report.network import report_network
from landscape.report.study import report_study

__all__ = ["report_network", "report_study"]
