"""Figures that are drawn beside the page: the same bytes as in one process, and none is lost where one is killed."""

import os
import subprocess
import sys

import pytest
import torch

from hpa_bench.report.page import drawing
from tests.support.reports import report_of, several

# In a process of its own: one that has torch is not forked.
FORKED = """
import os, resource, sys
from pathlib import Path
from matplotlib.figure import Figure
from hpa_bench.report import write_report
from hpa_bench.report.page import drawing
from hpa_bench.results.published import find_results
from hpa_bench.results.runs import read_runs

os.sched_getaffinity = lambda process: {0, 1}
runs, out = map(Path, sys.argv[1:])
write_report(read_runs(find_results([runs])), out, "A report")
assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > 0.2, "nothing was drawn beside"
first = os.getpid()
killed = drawing.Planned("killed", lambda: Figure() if os.getpid() == first else os._exit(9))
with drawing.beside({str(number): lambda: killed.save(out / "more") for number in range(8)}) as wait:
    assert wait()["7"].startswith("<svg")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere figures are drawn in the page's own process")
def test_processes_draw_what_one_draws(tmp_path):
    assert torch.__name__ in sys.modules, "a process that has torch is not forked"
    runs = [*several(tmp_path / "runs"), *several(tmp_path / "runs" / "harmful", harmful_ratio=0.05)]
    page = report_of(sorted(runs, key=lambda run: run.path), tmp_path / "one", "A report")
    command = [sys.executable, "-c", FORKED, str(tmp_path / "runs"), str(tmp_path / "two")]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "one" / "figures").iterdir())
    assert len(names) >= 12
    for name in names:
        assert (page.parent / "figures" / name).read_bytes() == (tmp_path / "two/figures" / name).read_bytes(), name
    assert page.read_bytes() == (tmp_path / "two" / "report.html").read_bytes()


def test_few_figures_are_drawn_here(tmp_path):
    seen = []
    planned = drawing.Planned("none", lambda: seen.append(os.getpid()))

    with drawing.beside({"none": lambda: planned.save(tmp_path)}) as wait:
        assert seen == [] and wait() == {"none": ""}

    assert seen == [os.getpid()]
