"""What works on this machine."""

from pathlib import Path

import pytest

from hpa_bench.runner.doctor import Finding, findings


def found(runs: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings(runs, "cpu")}


def test_each_thing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    looked = found(tmp_path)

    assert all("\n" not in finding.told and finding.told for finding in looked.values())
    assert looked["Python"].works and "torch" in looked["packages"].told
    assert (
        not looked["captions (METEOR, PTB tokens)"].works and "no java" in looked["captions (METEOR, PTB tokens)"].told
    )
    assert not looked["launcher slurm"].works
    assert looked[f"disk of {tmp_path}"].told.endswith("GB free")
    assert looked[f"leases in {tmp_path}"].told == "taken and left, by hard links"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    looked = found(tmp_path / "file" / "runs")

    assert not looked[f"disk of {tmp_path / 'file' / 'runs'}"].works
    assert not looked[f"leases in {tmp_path / 'file' / 'runs'}"].works
