"""What tests of several modules read: one report of several methods, and a run whose names hold what would act."""

import pytest

from hpa_bench.results.runs import read_runs
from tests.support.reports import ODD, report_of, several
from tests.support.run_folders import write_run


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("several")
    return report_of(several(root / "runs"), root / "report", "A & B <report>")


@pytest.fixture
def odd_runs(tmp_path):
    odd = write_run(tmp_path, finished=1, manifest={"suite": ODD, "git_commit": ODD[:10]})
    (odd.path / "FAILED").write_text(ODD)
    return read_runs([odd])
