"""`hpa-bench validate` on small downloads: everything is counted, nothing stops it, and leaks are found."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from tests.support.downloads import TRAIN, write_dcl, write_json, write_smolora
from tests.support.safety_downloads import write_all as write_safety_sets

NO_SETS = ["safety_sets=[]", "benign_sets=[]", "safety_data=null", "calibration.safety_set=null"]


def validate(*arguments: str) -> tuple[int, str]:
    """Return the exit status and what was printed."""
    settings = [part for setting in NO_SETS for part in ("--set", setting)]
    result = CliRunner().invoke(app, ["validate", *settings, *arguments])
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dcl(tmp_path)


def cells(output: str, name: str) -> list[str]:
    """Return a set's row of the table."""
    return next(line for line in output.splitlines() if name in line and "│" in line).replace("│", " ").split()


def test_a_whole_download(root: Path) -> None:
    status, output = validate("--suite", "mllm-dcl", "--data-root", str(root))

    assert status == 0
    assert cells(output, "dcl_ad") == ["dcl_ad", "task", "yes", "8", "4", "12", "0", "0"]
    assert "No test sample stands in training, calibration or alignment data." in output
    assert output.rstrip().endswith("Everything that the suite names is there.")


def test_everything_wrong_is_listed_at_once(root: Path) -> None:
    base = root / "Domain_data"
    shutil.rmtree(base / "RS")
    (base / "Med" / "train.json").write_text('[\n{"id": 1},\n]')
    ad = json.loads((base / "AD" / "train.json").read_text())
    for number in range(7):
        ad[number] = {"id": ad[number]["id"], "image": ad[number]["image"]}
    write_json(base / "AD" / "train.json", ad)
    for number in (1, 9):
        (base / "Fin" / "images" / f"{number}.png").unlink()
    torn = base / "Sci" / "images" / "AI2D_2.png"
    torn.write_bytes(torn.read_bytes()[:60])

    status, output = validate("--suite", "mllm-dcl", "--data-root", str(root), "--deep")

    assert status == 1
    assert cells(output, "dcl_rs")[2] == "no"
    assert "dcl_rs: There is no test file in" in output and "get it from the links at github.com/bjzhb666" in output
    assert "not valid JSON" in output and "a comma too many" in output
    assert cells(output, "dcl_ad")[3:] == [str(TRAIN - 7), "4", "5", "0", "7"]
    assert "AD/train.json:0): it has neither `conversations` nor `text`" in output
    assert "dcl_ad: 2 more bad rows." in output
    assert cells(output, "dcl_fin")[3:] == [str(TRAIN - 1), "3", "10", "2", "0"]
    assert "images/9.png of row 1 of" in output
    assert cells(output, "dcl_sci")[-1] == "1" and "AI2D_2.png) cannot be decoded" in output
    assert "dcl_fin: get what is missing from the links at" in output


def test_broken_pixels_need_a_deep_look_in_a_large_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpa_bench.data import images

    monkeypatch.setattr(images, "HELD_BYTES", 0)
    torn = root / "Domain_data" / "AD" / "images" / "2.png"
    torn.write_bytes(torn.read_bytes()[:60])
    options = ["--suite", "mllm-dcl", "--data-root", str(root)]

    assert validate(*options)[0] == 0
    assert validate(*options, "--deep")[0] == 1


def test_leaks_are_found_by_content_and_question(root: Path) -> None:
    base = root / "Domain_data"
    train = json.loads((base / "RS" / "train.json").read_text())
    test = json.loads((base / "Med" / "test.json").read_text())
    # Another name, another case and no suffix: the same sample. The same image alone is none.
    for index, question in ((0, "<image>\nHow is this Med?"), (1, "<image>\nhow is that ?")):
        shutil.copy(base / "Med" / test[index]["image"], base / "RS" / "images" / f"copy{index}.png")
        train[index]["image"] = f"images/copy{index}.png"
        train[index]["conversations"][0]["value"] = question
    # A question late in a conversation counts as well as the first.
    question, answer = train[0]["conversations"]
    late = {"from": "human", "value": question["value"].removeprefix("<image>\n")}
    train[0]["conversations"] = [{"from": "human", "value": "<image>\nAnd?"}, answer, late, answer]
    write_json(base / "RS" / "train.json", train)

    status, output = validate("--suite", "mllm-dcl", "--data-root", str(root))

    assert status == 0
    assert "test samples of dcl_med that stand in the training data of dcl_rs: 1 (such as 'q0', there 't0')" in output
    assert output.count("leakage:") == 1
    assert "leakage:" not in validate("--suite", "mllm-dcl", "--data-root", str(root), "--no-leakage")[1]


def test_alignment_data_can_be_named(root: Path, tmp_path: Path) -> None:
    base = root / "Domain_data"
    shutil.copytree(base / "AD", tmp_path / "aligned")
    shutil.copy(tmp_path / "aligned" / "test.json", tmp_path / "aligned" / "train.json")
    (tmp_path / "aligned" / "aligned.yaml").write_text(
        "task: aligned\ncustom_dataset: !function hpa_bench.llava_format.load\ntraining_split: train\n"
        "test_split: test\ndoc_to_image: !function hpa_bench.llava_format.doc_to_image\ndoc_to_text: question\n"
        "doc_to_target: answer\nprocess_results: !function hpa_bench.llava_format.score\n"
        "metric_list: [{metric: accuracy, aggregation: mean, higher_is_better: true}]\n"
    )
    named = ["--set", f"include_paths=[{tmp_path / 'aligned'}]", "--alignment", "aligned"]

    _, output = validate("--suite", "mllm-dcl", "--data-root", str(root), *named)

    assert "test samples of dcl_ad that stand in the training data of aligned: 4" in output


@pytest.mark.slow
def test_the_embedded_suite_leaks_nothing() -> None:
    result = CliRunner().invoke(app, ["validate"])

    assert result.exit_code == 0 and "No test sample stands in" in result.output


def test_the_papers_suite_with_its_safety_sets(root: Path) -> None:
    pytest.importorskip("pycocoevalcap", reason="the extra `captions` is not installed")
    for write in (write_smolora, write_safety_sets):
        write(root)

    result = CliRunner().invoke(app, ["validate", "--suite", "cvit", "--data-root", str(root)])

    assert result.exit_code == 0, result.output
    assert cells(result.output, "vlguard_calibration")[1:3] == ["source", "yes"]
    assert "The suite names no model, so a run needs --set model=PATH: a stage-1 LLaVA" in result.output
