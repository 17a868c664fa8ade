import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpa_bench.data.samples import Sample, content_hash
from hpa_bench.data.tasks import check_task, inspect_task, load_tasks, sample_id, training_samples
from hpa_bench.data.texts import LONGEST
from hpa_bench.errors import UserError
from hpa_bench.suite import package_task_folders
from tests.support.lmeval_tasks import row, rows, write_task


def load(folder, name="colours", **keywords):
    return load_tasks([name], [folder], **keywords)[name]


def test_training_rows_are_rendered_as_evaluation_renders_them(tmp_path):
    task = load(write_task(tmp_path, "colours", {"train": rows(3), "test": [row(9, "blue")]}))

    first, *_ = training_samples(task)

    assert (first.id, first.task, first.target) == ("r0", "colours", "red")
    assert first.prompt == "<image>\nwhat colour is this ?"
    assert first.images[0].getpixel((0, 0)) == (255, 0, 0)
    assert [sample.id for sample in check_task(task, "test")] == ["r9"]


def test_validation_can_stand_in_for_test(tmp_path):
    write_task(tmp_path, "colours", {"validation": [row(1)], "test": [row(2)]})

    assert [doc["id"] for doc in load(tmp_path).eval_docs] == ["r2"]
    assert [doc["id"] for doc in load(tmp_path, split="validation").eval_docs] == ["r1"]


@pytest.mark.slow
def test_that_a_yaml_is_code_is_said_once_of_a_folder_and_not_of_the_packages(tmp_path, caplog):
    for name in ("colours", "shapes"):
        write_task(tmp_path, name, {"training": rows(2), "test": rows(2)})
        load(tmp_path, name)
        load(tmp_path, name)
    load_tasks(["tiny_ad", "tiny_harmful"], package_task_folders())

    assert [record.getMessage() for record in caplog.records] == [
        f"The tasks in {tmp_path} are code, which `!function` runs: use folders that you trust."
    ]


def test_unknown_task_names_the_nearest(tmp_path):
    write_task(tmp_path, "colours", {"test": [row(1)]})

    with pytest.raises(UserError, match=r"Unknown task 'colors'.*Did you mean 'colours'\? Available: colours\."):
        load(tmp_path, "colors")


@pytest.mark.parametrize(
    ("doc", "expected"),
    [({"id": 3, "question_id": 4}, "3"), ({"id": 0}, "0"), ({"question_id": "q"}, "q"), ({"id": None}, "7"), ({}, "7")],
)
def test_id_is_the_rows_own_or_its_place(doc, expected):
    assert sample_id(doc, 7) == expected


def test_a_task_that_cannot_be_loaded(tmp_path):
    write_task(tmp_path, "colours", {"test": [row(1)]})
    (tmp_path / "colours.json").write_text("{")

    with pytest.raises(UserError, match=r"Task 'colours' \(.*colours.yaml\) cannot be loaded: JSONDecodeError"):
        load(tmp_path)


def test_a_task_that_does_not_generate(tmp_path):
    choice = {"output_type": "multiple_choice", "doc_to_choice": ["red"], "generation_kwargs": None}
    write_task(tmp_path, "colours", {"test": [row(1)]}, metric="acc", doc_to_image=None, **choice)

    with pytest.raises(UserError, match="has output_type multiple_choice: expected generate_until"):
        load(tmp_path)


@pytest.mark.parametrize(
    "more", [{"description": "Look."}, {"num_fewshot": 2, "fewshot_split": "test"}, {"gen_prefix": "It is"}]
)
def test_a_task_whose_requests_are_more_than_its_rows_prompts(tmp_path, more):
    write_task(tmp_path, "colours", {"test": [row(1), row(2), row(3)]}, **more)
    first = next(iter(more))

    with pytest.raises(UserError, match=rf"colours.yaml\) sets {first}, .*: put the text into doc_to_text"):
        load(tmp_path)


def test_no_description_and_no_examples_may_be_said(tmp_path):
    write_task(tmp_path, "colours", {"test": [row(1)]}, description="", num_fewshot=0, gen_prefix="")

    assert load(tmp_path).task_name == "colours"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(1, answer=""), "Sample 'r1' in the training split of task 'colours' has no answer"),
        (row(1, answer=None), "Sample 'r1' in the training split of task 'colours' has no answer"),
        (row(0), "Sample id 'r0' stands twice in the training split of task 'colours'"),
        (row(1, question="what ?"), "has 0 <image> in its prompt and 1 images"),
        (row(1, images=["red.png", "blue.png"]), "has 1 <image> in its prompt and 2 images"),
        (
            row(1, images=["gone.png"]),
            r"An image of sample 'r1' in the training split.* cannot be decoded: .*gone\.png",
        ),
        (row(1, images=["torn.png"]), r"sample 'r1' .*\(file .*torn\.png\) cannot be decoded: OSError"),
        (row(1, images=["text.png"]), r"sample 'r1' .* cannot be decoded: UnidentifiedImageError: .*text\.png"),
    ],
)
def test_bad_row_is_named(tmp_path, bad, message):
    write_task(tmp_path, "colours", {"train": [row(0), bad], "test": [row(9)]})
    (tmp_path / "torn.png").write_bytes((tmp_path / "red.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("no image")

    with pytest.raises(UserError, match=message):
        training_samples(load(tmp_path))


def test_missing_and_empty_splits(tmp_path):
    write_task(tmp_path, "colours", {"test": [row(1)]})
    task = load(tmp_path)

    with pytest.raises(UserError, match=r"colours.yaml\) has no training split: set `training_split` in its YAML"):
        training_samples(task)
    with pytest.raises(UserError, match="has no validation split"):
        check_task(task, "validation")
    task.dataset["test"] = task.dataset["test"].select([])
    with pytest.raises(UserError, match="There are no rows in the test split of task 'colours'"):
        check_task(task, "test")


def test_a_split_that_the_data_set_lacks(tmp_path):
    write_task(tmp_path, "colours", {"test": [row(1)]}, training_split="train", fewshot_split="test")

    with pytest.raises(
        UserError, match="training split that .*colours.yaml names for task 'colours' is not in its data"
    ):
        training_samples(load(tmp_path))


def test_bypassed_sets_need_no_answer(tmp_path):
    write_task(tmp_path, "unsafe", {"test": [row(1)]}, metric="bypass", doc_to_target="")

    assert check_task(load(tmp_path, "unsafe"), "test")[0].target == ""


def test_content_hash_sees_every_part(tmp_path):
    first, second = training_samples(load(write_task(tmp_path, "colours", {"train": rows(2), "test": rows(1)})))
    whole = content_hash([first, second])

    assert whole == content_hash([first, second])
    assert whole != content_hash([second, first])
    for change in ({"id": "x"}, {"prompt": "x"}, {"target": "x"}, {"images": second.images}):
        assert content_hash([replace(first, **change), second]) != whole


@pytest.mark.parametrize(
    "fields",
    [
        {"answers": ["red", "rose"]},
        {"references": ["red", "rose"]},
        {"choices": 4},
        {"size": [3, 4]},
        {"answer_bbox": [0, 0, 1, 1]},
    ],
)
def test_what_decides_the_score_of_a_test_row_counts(tmp_path: Path, fields: dict[str, Any]) -> None:
    (key,) = fields
    splits = {"train": [row(1, **fields)], "test": [row(1, **fields), row(2)]}
    task = load(write_task(tmp_path, "colours", splits))

    (trained,), (first, second) = training_samples(task), check_task(task, "test")
    assert (trained.graded_by, json.loads(first.graded_by), second.graded_by) == ("", fields, "")
    plain = load(write_task(tmp_path, "colours", {"test": [row(1, **{key: ["red"]}), row(2)]}))
    assert [sample.graded_by for sample in check_task(plain, "test")] == ["", ""], "the answer, which counts anyway"


def test_every_answer_that_a_task_gives_counts(tmp_path: Path) -> None:
    rows = [row(1, others=["red", "rose"])]
    task = load(write_task(tmp_path, "colours", {"test": rows}, metric="bypass", doc_to_target="others"))

    (sample,) = check_task(task, "test")
    assert (sample.target, json.loads(sample.graded_by)) == ("red", {"doc_to_target": ["red", "rose"]})


def test_a_null_is_no_word_of_a_prompt(tmp_path: Path) -> None:
    asked = ["<image> what ?", None, "<image> None of these ?"]
    found = [row(number, question=question, hint=None) for number, question in enumerate(asked)]
    template = "{{question}}{% if hint %} {{hint}}{% endif %}"
    folder = write_task(tmp_path, "colours", {"train": found, "test": found[:1]}, doc_to_text=template)

    first, second, third = inspect_task(load(folder), "training")

    assert isinstance(first, Sample) and isinstance(third, Sample)
    assert "The prompt of sample 'r1' in the training split" in str(second) and "made of a null (of " in str(second)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"answer": {"a": 1}}, "The answer of sample"),
        ({"category": ["a"]}, "The category of sample"),
        ({"question": "x" * (LONGEST + 1)}, r"The prompt of sample 'r1' .* has 131,073 characters"),
        ({"answer": "x" * (LONGEST + 1)}, r"The answer of sample 'r1' .* has 131,073 characters"),
        ({"id": "x" * 2000}, r"The id of sample .* has 2,000 characters: expected 1,024"),
        ({"cluster": "x" * 2000}, "The cluster of sample 'r1' .* has 2,000 characters"),
    ],
)
def test_a_text_that_a_run_cannot_keep_is_named(change: dict[str, object], sentence: str, tmp_path: Path) -> None:
    write_task(
        tmp_path, "colours", {"train": [row(1, **change)], "test": [row(1, category="a")]}, doc_to_target="answer"
    )

    with pytest.raises(UserError, match=sentence) as caught:
        check_task(load_tasks(["colours"], [tmp_path])["colours"], "training")
    assert len(str(caught.value)) < 500


def test_a_column_that_became_json_is_refused(tmp_path: Path) -> None:
    write_task(tmp_path, "colours", {"train": rows(1), "test": [row(1, answer='"red"'), row(2, answer="3")]})
    write_task(tmp_path, "shades", {"train": rows(1), "test": [row(1, answer='"red"'), row(2, answer='"3"')]})
    tasks = load_tasks(["colours", "shades"], [tmp_path])

    assert len(check_task(tasks["shades"], "test")) == 2
    with pytest.raises(
        UserError, match="The column 'answer' in the test split of task 'colours' has values of several"
    ):
        check_task(tasks["colours"], "test")
