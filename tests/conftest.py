"""What all tests share: no hub, one thread a process, since several may run, and the word `slow`, kept honest."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hpa_bench.launchers.warm import starts
from hpa_bench.plugins import DOORS
from tests.support import fault_counts

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

starts.worth = 1  # What one test leaves, the next takes: a server for a single run is worth its start.

NAMED, FAILED = 5, 300
"""Seconds from which on a test that is not marked `slow` is named at the end, and from which on it fails."""
LONG = {"slow", "faults", "browser"}
"""Marks of tests that may take longer."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-counts", action="store_true", help="Write how the faults went into docs/faults.md.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not {*LONG, "timeout"} & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.timeout(FAILED))


@pytest.fixture(autouse=True)
def no_plugin_stays() -> Iterator[None]:
    """Forget after each test what it added to the registries."""
    with ExitStack() as stack:
        for door in DOORS:
            stack.enter_context(door.scratch())
        yield


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    """Give the processes that tests start one environment, which is that of their server, without the test's name."""
    name = os.environ.pop("PYTEST_CURRENT_TEST", "")
    try:
        return (yield)
    finally:
        os.environ["PYTEST_CURRENT_TEST"] = name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for group in terminalreporter.stats.values() for report in group]
    long = [one for one in reports if isinstance(one, pytest.TestReport) and not LONG & set(one.keywords)]
    for report in sorted(long, key=lambda report: -report.duration):
        if report.duration > NAMED:
            terminalreporter.line(f"{report.duration:.0f} s, and not marked slow: {report.nodeid} ({report.when})")

    calls = [one for one in reports if isinstance(one, pytest.TestReport) and one.when == "call"]
    counts = fault_counts.counted(pair for report in calls for pair in report.user_properties)
    if counts:
        terminalreporter.section("generated faults")
        terminalreporter.write_line(fault_counts.table(counts))
        if terminalreporter.config.getoption("--write-counts"):
            page = fault_counts.PAGE.read_text(encoding="utf-8")
            fault_counts.PAGE.write_text(fault_counts.written(page, counts), encoding="utf-8")
