"""`hpa-bench verify`: a run made twice is equal, one that differs says where, by its exit status too."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench import run
from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.files import write_jsonl
from hpa_bench.results import published
from tests.support.run_folders import write_run
from tests.support.suites import write_suite


def verified(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["verify", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.slow
def test_a_run_folder_is_verified(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", tasks=["colours"])
    made = run(str(suite), "seqft", 1, out=tmp_path / "run")
    code, said = verified(made.path, "--suite", suite, "--out", tmp_path / "again")

    assert code == 0 and said.endswith("Every response equal to the published run."), said
    assert "seqft, seed 1, of small version 1 is made again." in said

    stage = made.stage(1)
    rows = stage.responses("harm")
    rows[0]["response"] = "Something else."
    write_jsonl(stage.path / "responses" / "harm.jsonl", rows)
    (stage.path / "DONE").write_text("")
    # What is finished in --out is not made again.
    code, said = verified(made.path, "--suite", suite, "--out", tmp_path / "again")
    assert code == 1
    expected = (
        f"The responses differ from the published run's, first in stage 1, harm: 1 of {len(rows)} responses, asr "
    )
    assert expected in said


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "runs", "seqft")
    with pytest.raises(UserError, match="There is no run of hpa with seed 2 in .*: it has seqft."):
        CliRunner().invoke(
            app, ["verify", str(tmp_path / "runs"), "--method", "hpa", "--seed", "2"], catch_exceptions=False
        )
    with pytest.raises(UserError, match="No published results of the suite 'cvit' come with hpa-bench"):
        published.locate("published", "cvit")
