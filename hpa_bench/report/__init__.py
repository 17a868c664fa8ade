"""Reports of runs: tables, figures and one HTML page, from the run directories alone; no GPU, no model."""

from typing import TYPE_CHECKING, Any

from hpa_bench.report.terminal import terminal_table

if TYPE_CHECKING:
    from hpa_bench.report.page import write_report

__all__ = ["terminal_table", "write_report"]


def __getattr__(name: str) -> Any:
    # Whoever writes no page needs no matplotlib.
    if name == "write_report":
        from hpa_bench.report.page import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
