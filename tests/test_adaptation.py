"""What `hpa-bench adapt` is asked for is checked before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest

from hpa_bench.adaptation import Adaptation, rows_file
from hpa_bench.errors import UserError
from hpa_bench.method import methods


def asked(folder: Path, **changes: Any) -> Adaptation:
    for name in ("before", "after"):
        (folder / name).mkdir(exist_ok=True)
    given = {"method": "wise_ft", "before": str(folder / "before"), "after": str(folder / "after")}
    return Adaptation(**{**given, "out": folder / "out", **changes})


def test_what_is_there_passes(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    asked(tmp_path).check()
    asked(tmp_path, before="llava-hf/llava-1.5-7b-hf", after="someone/tuned").check()
    asked(tmp_path, method="hpa", safety="vlguard_calibration", task="tiny_ad").check()


def test_settings_are_the_methods_or_the_recipes(tmp_path: Path) -> None:
    one = asked(tmp_path, method="hpa:p_min=2", settings=["p_max=20", "task_samples=7", "decoder.blocks=model.layers"])

    assert (one.config.p_max, one.config.p_min) == (20, 2)  # type: ignore[attr-defined]
    assert one.recipe.task_samples == 7 and one.recipe.safety_samples == 8
    assert one.recipe.decoder is not None and one.recipe.decoder.blocks == "model.layers"
    assert (one.recipe.precision("cpu"), one.recipe.precision("cuda")) == ("float32", "bfloat16")


def test_needs_depend_on_settings(tmp_path: Path) -> None:
    asked(tmp_path, method="random_columns").check()

    with pytest.raises(UserError, match="'random_columns' needs harmful requests .*: give --safety FILE|TASK"):
        asked(tmp_path, method="random_columns:match=norm").check()


def test_every_method_edits_or_is_refused_with_those_that_do(tmp_path: Path) -> None:
    edit = set()
    for name in methods.names():
        try:
            edit.add(asked(tmp_path, method=name).editor.name)
        except UserError as error:
            assert "'ties', 'wise_ft'" in str(error).replace("ties, wise_ft", "'ties', 'wise_ft'")
    controls = {"random_columns", "magnitude_columns", "relative_columns", "scaled_update"}
    edits = {"hpa", "safe_delta", "model_tailor", "safelora", "wise_ft", "ties", "magmax", "resta"}

    assert edit == controls | edits


def test_an_out_that_holds_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is there already: expected a folder that does not exist yet"):
        asked(tmp_path, out=tmp_path).check()


def test_a_source_is_a_file_a_folder_with_one_or_a_task(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "train.json").write_text("[]")
    (tmp_path / "one" / "test.json").write_text("[]")

    assert rows_file("vlguard_calibration") is None
    assert rows_file(str(tmp_path / "one")) == rows_file(str(tmp_path / "one" / "train.json"))
    for source, sentence in {
        str(tmp_path): "holds no train.json, nor one JSON file alone",
        str(tmp_path / "none.json"): "There is no .*none.json",
        "no/such/folder": "There is no no/such/folder",
    }.items():
        with pytest.raises(UserError, match=sentence):
            rows_file(source)
