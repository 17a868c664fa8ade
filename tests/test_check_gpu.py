"""The check of a GPU goes through on the simulated one, and tells what fails."""

import json
from pathlib import Path

import pytest

from benchmarks import check_gpu
from tests.support.simulated_gpu import simulated_gpu


@pytest.mark.slow
@pytest.mark.parametrize("part", ["edit", "edit_memory", "run,training_memory,generation"])
def test_the_parts_on_a_small_shape(part: str, tmp_path: Path) -> None:
    with simulated_gpu():
        arguments = ["--shape", "few", "--parts", part, "--json", str(tmp_path / "found.json")]
        assert check_gpu.main([*arguments, "--work", str(tmp_path / "work")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["machine"]["hardware"]["device"] == "simulated GPU"
    assert all(found[name]["seconds of this part"] > 0 for name in part.split(","))


@pytest.mark.slow
def test_a_part_that_fails_is_told_and_the_next_goes_on(tmp_path: Path) -> None:
    with simulated_gpu(capacity=9_000_000):
        arguments = ["--shape", "few", "--parts", "edit,generation", "--json", str(tmp_path / "found.json")]
        assert check_gpu.main([*arguments, "--work", str(tmp_path / "work")]) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert "out of memory" in found["edit"]["missing"]
    assert found["generation"]["requests a second"]["hf"] > 0 and "missing" not in found["generation"]
