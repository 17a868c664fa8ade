"""The check of a GPU goes through on the simulated one, chooses what fits, and tells what fails."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from benchmarks import check_gpu, fitting
from benchmarks.check_gpu import PARTS
from hpa_bench.errors import UserError
from tests.support.simulated_gpu import simulated_gpu

GB = 10**9


def checked(folder: Path, *arguments: str, capacity: int = 2**40, status: int = 0) -> dict[str, Any]:
    file = folder / "found.json"
    with simulated_gpu(capacity=capacity):
        assert check_gpu.main([*arguments, "--json", str(file), "--work", str(folder / "work")]) == status
    return json.loads(file.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("part", ["edit", "edit_memory", "run,training_memory,generation"])
def test_the_parts_on_a_small_shape(part: str, tmp_path: Path) -> None:
    found = checked(tmp_path, "--shape", "few", "--parts", part)

    assert found["machine"]["hardware"]["device"] == "simulated GPU"
    assert all(found[name]["seconds of this part"] > 0 for name in part.split(","))
    if "run" in part:
        asked = found["run"]["equal responses of hf and hf in other batches, last stage"]
        assert asked == "36 of 36", "on the CPU behind the simulated GPU a batch changes nothing"
        assert not list((tmp_path / "work").rglob("*.safetensors")), "models leave the disk with their part"


@pytest.mark.slow
def test_a_part_that_fails_is_told_and_the_next_goes_on(tmp_path: Path) -> None:
    found = checked(tmp_path, "--shape", "few", "--parts", "edit,generation", capacity=9_000_000, status=1)

    assert "out of memory" in found["edit"]["missing"]
    assert found["generation"]["requests a second"]["hf"] > 0 and "missing" not in found["generation"]


@pytest.mark.slow
def test_a_card_too_small_for_two_blocks_of_7b_gets_the_small_shape(tmp_path: Path) -> None:
    found = checked(tmp_path, "--parts", "edit", capacity=4 * GB)

    assert (found["shape"], found["blocks"]) == ("few", 2)
    assert found["why"].startswith("two blocks of 7b would take 11.1 GB (edit) of the card; 4.0 GB of the card and ")
    assert found["edit"]["ratio"] > 0


@pytest.mark.parametrize(("capacity", "blocks"), [(80 * GB, 32), (24 * GB, 17), (12 * GB, 6)])
def test_the_blocks_are_as_many_as_the_card_holds(capacity: int, blocks: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(check_gpu.shutil, "disk_usage", lambda folder: Free(1000 * GB))
    found = checked(tmp_path, "--minutes", "0", capacity=capacity)

    assert (found["shape"], found["blocks"]) == ("7b", blocks)
    assert fitting.SPARE * max(fitting.on_card(blocks).values()) <= capacity / GB
    if blocks < 32:
        assert fitting.SPARE * max(fitting.on_card(blocks + 1).values()) > capacity / GB
        assert f"; {blocks + 1} would take" in found["why"]


class Free:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_small_disk_makes_the_decoder_shorter_where_a_part_writes_models(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(check_gpu.shutil, "disk_usage", lambda folder: Free(30 * GB))

    assert checked(tmp_path, "--minutes", "0")["blocks"] == 18
    assert checked(tmp_path, "--minutes", "0", "--parts", "edit,generation")["blocks"] == 32


def test_shape_and_blocks_overrule_what_fits(tmp_path: Path) -> None:
    found = checked(tmp_path, "--minutes", "0", "--blocks", "3", capacity=GB)
    assert (found["shape"], found["blocks"], found["why"]) == ("7b", 3, "as --shape and --blocks say")
    found = checked(tmp_path, "--minutes", "0", "--shape", "7b", capacity=GB)
    assert (found["shape"], found["blocks"]) == ("7b", 32)


def test_the_arithmetic_is_what_an_h200_measured() -> None:
    of_32 = fitting.on_card(32)

    assert fitting.weights(32) == pytest.approx(14.1, abs=0.05)
    assert of_32["generation"] == pytest.approx(39.0, rel=0.02)
    assert of_32["training_memory"] == pytest.approx(31.1, rel=0.02)
    assert of_32["run"] == pytest.approx(28.2, abs=0.1)
    assert all(fitting.on_card(few)[part] <= of_32[part] for few in (2, 16) for part in of_32)


def test_parts_without_time_are_left_out_with_a_command_that_makes_them(tmp_path: Path) -> None:
    found = checked(tmp_path, "--shape", "few", "--minutes", "0.5", "--parts", "embedded,methods")

    assert (
        found["methods"]["left out"] == "it takes 118 s (measured on an NVIDIA H200), and 30 s are left of 0.5 minutes"
    )
    python, module, name, *arguments = shlex.split(found["methods"]["command"])
    assert (python, module, name) == ("python", "-m", "benchmarks.check_gpu")
    assert {"--shape=few", "--parts=methods", f"--work={tmp_path / 'work'}"} < set(arguments)
    minutes = next(float(each.partition("=")[2]) for each in arguments if each.startswith("--minutes"))
    assert 60 * minutes > fitting.expected_seconds("methods", with_vllm=True)


@pytest.mark.slow
def test_the_command_of_a_part_that_was_left_out_makes_it(tmp_path: Path) -> None:
    left = checked(tmp_path, "--shape", "few", "--minutes", "0.05", "--parts", "edit")["edit"]
    assert left["left out"] == "it takes 6 s (measured on an NVIDIA H200), and 3 s are left of 0.05 minutes"

    with simulated_gpu():
        assert check_gpu.main(shlex.split(left["command"])[3:]) == 0
    assert json.loads((tmp_path / "found-edit.json").read_text())["edit"]["ratio"] > 0


def test_what_parts_took_tells_what_later_ones_will_take() -> None:
    minutes = fitting.Minutes(600, pace=True)
    minutes.spend("edit", 18, with_vllm=False)
    minutes.spend("edit_memory", 105, with_vllm=False)

    assert minutes.too_long("generation", with_vllm=False) == ""
    assert minutes.too_long("run", with_vllm=False) == (
        "it takes 642 s (measured on an NVIDIA H200, times 3.0 as the parts so far took),"
        " and 477 s are left of 10 minutes"
    )


def test_the_parts_that_an_h200_made_fit_ten_minutes_with_vllm() -> None:
    minutes = fitting.Minutes(600, pace=True)
    for part in list(PARTS)[:5]:
        assert minutes.too_long(part, with_vllm=True) == ""
        minutes.spend(part, fitting.expected_seconds(part, with_vllm=True), with_vllm=True)
    assert list(PARTS)[:5] == ["edit", "edit_memory", "training_memory", "generation", "run"]
    assert "are left of 10 minutes" in minutes.too_long("methods", with_vllm=True)


def test_a_part_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no 'edits'; there are edit, edit_memory"):
        check_gpu.main(["--parts", "edits"])


@pytest.mark.slow
def test_the_main_job_with_few_rows_is_made_again_and_gone_on_with_alike(tmp_path: Path) -> None:
    found = checked(tmp_path, "--shape", "few", "--parts", "embedded", "--rows", "8")["embedded"]

    assert set(found["largest difference of a weight"].values()) == {0.0}
    scores = found["scores of the last stage"]
    assert found["seconds of the main job"] > 0 and 0 <= scores["accuracy of tiny_textvqa"] <= 100
    assert sum(name.startswith("accuracy of tiny_") for name in scores) == 6


@pytest.mark.slow
def test_methods_of_each_kind_with_few_rows(tmp_path: Path) -> None:
    names = "ewc,hpa,moelora,resta"
    found = checked(tmp_path, "--shape", "few", "--parts", "methods", "--methods", names, "--rows", "8")["methods"]

    assert list(found["seconds"]) == names.split(",") and all(value > 0 for value in found["seconds"].values())


@pytest.mark.slow
def test_a_method_that_fails_is_told_and_the_next_goes_on(tmp_path: Path) -> None:
    arguments = ["--shape", "few", "--parts", "methods", "--methods", "hpas,zero_shot", "--rows", "8"]
    found = checked(tmp_path, *arguments, status=1)["methods"]

    assert found["missing"] == "hpas failed" and "hpas" in found["found"][0]["hpas"]
    assert found["found"][0]["zero_shot"] > 0
