"""Reports of runs: tables, figures and one HTML page, from the run directories alone; no GPU, no model."""

from hpa_bench.report.page import write_report
from hpa_bench.report.terminal import terminal_table

__all__ = ["terminal_table", "write_report"]
