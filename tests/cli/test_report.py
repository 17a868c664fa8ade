"""`hpa-bench report`: what is no run is one sentence, and nothing is written."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpa_bench.cli import main
from hpa_bench.results.manifest import FORMAT, MANIFEST, Manifest

RUN = Manifest(
    format=FORMAT,
    suite="toy",
    method="seqft",
    config={},
    seed=0,
    harmful_ratio=0.0,
    tasks=["ad"],
    stages=[["ad"]],
    safety_sets=[],
    benign_sets=[],
    judges=[],
)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what is said of folders that hold no run."""

    def refused(*folders: Path) -> str:
        out = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["hpa-bench", "report", *map(str, folders), "--out", str(out)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert ended.value.code == 2 and printed.out == "" and not out.exists()
        assert printed.err.count("\n") == 1
        return printed.err

    return refused


def test_a_folder_without_a_run(report: Callable[..., str], tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        expected = f"No run in {folder}: expected a folder with a manifest.json at or below it."
        assert report(folder) == f"Error: {expected}\n"


def test_one_bad_folder_among_good_ones(report: Callable[..., str], tmp_path: Path) -> None:
    RUN.write(tmp_path / "good" / MANIFEST)

    assert report(tmp_path / "good", tmp_path / "bad").startswith(f"Error: No run in {tmp_path / 'bad'}: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format": 2, ', "is no JSON ("),
        ("[]", "is no manifest of hpa-bench: it holds no object."),
        ('{"format": 2}', "is no manifest of hpa-bench: it lacks suite, method, "),
        ('{"format": 99}', "has format 99, and this version reads 1 and 2: update hpa-bench."),
    ],
)
def test_a_manifest_that_cannot_be_read(text: str, reason: str, report: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)

    assert report(tmp_path).startswith(f"Error: {tmp_path / MANIFEST} {reason}")
