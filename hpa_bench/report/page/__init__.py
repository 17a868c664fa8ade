"""The report: one self-contained HTML page beside its tables and figures, made from run directories alone."""

from hpa_bench.report.page.write import write_report

__all__ = ["write_report"]
