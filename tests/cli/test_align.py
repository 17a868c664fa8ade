"""`hpa-bench align`: what is not there is one sentence, before any row is rendered or anything is written."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpa_bench.cli import main
from hpa_bench.runner import alignment
from tests.support.lmeval_tasks import rows, write_task


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what is said of an alignment of a base that is not there."""
    write_task(tmp_path / "tasks", "refusals", {"train": rows(4), "test": rows(4)})
    rendered: list[object] = []
    monkeypatch.setattr(alignment, "training_samples", rendered.append)

    def align(*arguments: str, data: str = "refusals", out: Path = tmp_path / "out") -> str:
        command = ["align", "--model", str(tmp_path / "nowhere"), "--data", data, "--out", str(out), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["hpa-bench", *command, *arguments])
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == 2 and printed.out == "" and rendered == []
        assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
        return printed.err.splitlines()[-1]

    return align


def test_a_base_that_is_not_there(refused: Callable[..., str], tmp_path: Path) -> None:
    said = refused("--include-path", str(tmp_path / "tasks"))

    assert said.startswith("Error: ") and str(tmp_path / "nowhere") in said


def test_a_folder_that_holds_something_is_not_written_over(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused(out=tmp_path).startswith(f"Error: --out {tmp_path} is there already: expected a folder that does")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "training.epoch=2"], "Unknown key 'training.epoch' in --set"),
        (["--include-path", "no/such/folder"], "--include-path no/such/folder does not exist: expected a folder"),
        (["--data", "refusal"], "Unknown task 'refusal' (neither in"),
        (["--set", "chat_template=nowhere.jinja"], "There is no model folder"),
    ],
)
def test_a_bad_option(arguments: list[str], sentence: str, refused: Callable[..., str]) -> None:
    assert refused(*arguments).startswith(f"Error: {sentence}")
