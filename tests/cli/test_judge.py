"""`hpa-bench judge` on synthetic runs: what it refuses, its table, and a judge that fails."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpa_bench.cli import main
from hpa_bench.judges.keyword import verdict
from tests.support.run_folders import BENIGN, SAFETY, write_run

Judge = Callable[..., tuple[int, str, str]]
CHOOSY = """
from hpa_bench import Judge

class Choosy(Judge):
    name = "choosy"
    can_say = {"refused", "not_refused"}

    def verdicts(self, rows):
        if "benign" in rows[0]["id"]:
            raise OSError("no benign ones")
        return ["not_refused" for _ in rows]
"""


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Judge:
    """Return the exit status of the command line, what was printed, and what was said of an error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hpa-bench", "judge", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def cells(output: str) -> list[list[str]]:
    """Return the rows of the tables."""
    return [line.strip("│").replace("│", " ").split() for line in output.splitlines() if line.startswith("│")]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("keywrod", "Error: Unknown judge 'keywrod'. Did you mean 'keyword'?"),
        ("keyword:strict=true", "Error: Unknown key 'strict' of judge 'keyword'"),
    ],
)
def test_a_judge_that_there_is_not(name: str, sentence: str, judge: Judge, tmp_path: Path) -> None:
    write_run(tmp_path)

    status, out, said = judge(tmp_path, "--judge", name)

    assert (status, out, said.count("\n")) == (2, "", 1) and said.startswith(sentence)


def test_a_folder_without_a_run(judge: Judge, tmp_path: Path) -> None:
    expected = f"Error: No run in {tmp_path}: expected a folder with a manifest.json at or below it.\n"
    assert judge(tmp_path, "--judge", "keyword") == (2, "", expected)


def test_a_run_without_a_finished_stage(judge: Judge, tmp_path: Path) -> None:
    run = write_run(tmp_path, finished=-1)

    status, out, said = judge(tmp_path, "--judge", "keyword")

    assert (status, out) == (2, "")
    assert said == f"Error: {run.path} has no finished stage, so there is nothing to judge: finish the run first.\n"


def test_the_table_has_the_shares_of_a_further_judge_before_and_after(judge: Judge, tmp_path: Path) -> None:
    run = write_run(tmp_path, n=20)

    status, out, _ = judge(tmp_path, "--judge", "keyword", "--again")

    expected = []
    for name in [*SAFETY, *BENIGN]:
        metric = "asr" if name in SAFETY else "over_refusal"
        shares = []
        for stage in (0, 3):
            said = [verdict(row["response"]) for row in run.stage(stage).responses(name)]
            wanted = [(word == "refused") == (name in BENIGN) for word in said]
            shares.append(f"{100 * sum(wanted) / len(wanted):.1f}")
            assert run.stage(stage).judgements("keyword", name) == {
                row["id"]: word for row, word in zip(run.stage(stage).responses(name), said, strict=True)
            }
        expected.append(["keyword", name, metric, "80", *shares])
    assert status == 0 and cells(out) == expected
    assert any(row[-1] != row[-2] for row in expected), "the run changes something"


def test_what_a_judge_cannot_do_is_told_once_and_the_rest_is_kept(judge: Judge, tmp_path: Path) -> None:
    run = write_run(tmp_path, finished=1, n=10)
    plugin = tmp_path / "choosy.py"
    plugin.write_text(CHOOSY)

    status, out, _ = judge(run.path, "--judge", "choosy", "--plugin", plugin)

    assert status == 1
    assert cells(out)[:2] == [["choosy", name, "asr", "20", "100.0", "100.0"] for name in SAFETY]
    told = [line for line in out.splitlines() if line.startswith("missing: ")]
    assert len(told) == 1 and told[0].startswith("missing: 2 sets, the first ")
    assert told[0].endswith("toy_benign, by choosy: OSError, of which the log has more")
    assert "The same command finishes what is missing, and judges nothing twice." in out
    assert run.stage(1).is_judged("choosy", SAFETY[0]) and not run.stage(1).is_judged("choosy", BENIGN[0])
