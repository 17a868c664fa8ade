"""LLaVA-format downloads: every published layout is read as it is, and what is wrong with a row is said."""

import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hpa_bench.data.llava_format import load
from hpa_bench.data.samples import Sample
from hpa_bench.data.tasks import check_scoring, check_task, inspect_task, load_tasks
from hpa_bench.errors import MissingImage, UserError
from hpa_bench.spec import RunOptions, make_spec
from tests.support.downloads import TEST, TRAIN, train_row, write_coin, write_dcl, write_json, write_smolora, write_ucit

NO_SETS = ["safety_sets=[]", "benign_sets=[]"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("downloads")
    write_ucit(folder)
    write_dcl(folder)
    write_smolora(folder)
    return write_coin(folder)


def tasks_of(suite: str, root: Path | None, *settings: str) -> dict[str, Any]:
    data_root = str(root) if root else None
    found = make_spec(
        RunOptions(suite, "seqft", data_root=data_root, settings=[*NO_SETS, *settings]), model=False
    ).suite
    return load_tasks(found.tasks, found.task_folders(), metadata=found.task_metadata())


def own_task(folder: Path, train: Any = None, test: Any = None, **kwargs: Any) -> Any:
    """Write a stranger's task of ten lines and load it."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (30, 24), "red").save(folder / "red.png")
    rows = [{"question_id": i, "image": "red.png", "text": "what ?", "answer": "red"} for i in range(2)]
    write_json(folder / "test.json", rows if test is None else test)
    write_json(
        folder / "train.json", [train_row(i, "red.png", "what ?", "red") for i in range(2)] if train is None else train
    )
    (folder / "mine.yaml").write_text(
        f"""task: mine
custom_dataset: !function hpa_bench.llava_format.load
dataset_kwargs: {json.dumps({"scoring": "strict/exact", **kwargs})}
training_split: train
test_split: test
doc_to_image: !function hpa_bench.llava_format.doc_to_image
doc_to_text: question
doc_to_target: answer
process_results: !function hpa_bench.llava_format.score
metric_list: [{{metric: accuracy, aggregation: mean, higher_is_better: true}}]
"""
    )
    return load_tasks(["mine"], [folder])["mine"]


@pytest.mark.parametrize(("suite", "count"), [("ucit", 6), ("mllm-dcl", 5), ("coin", 8), ("cvit", 6), ("smolora", 6)])
def test_every_layout_is_read(root: Path, suite: str, count: int) -> None:
    tasks = tasks_of(suite, root, "rules.caption=strict")

    assert len(tasks) == count
    for name, task in tasks.items():
        text_only = name == "coin_scienceqa"
        training, test = check_task(task, "training"), check_task(task, "test")
        if "bleu_rouge_cider" not in task.aggregation() or find_spec("pycocoevalcap"):
            check_scoring(task)
        assert (len(training), len(test)) == (TRAIN + text_only, TEST + text_only)
        assert Counter(len(sample.images) for sample in test) == {1: TEST} | ({0: 1} if text_only else {})
        assert [sample.id for sample in test[:TEST]] == [f"q{i}" for i in range(TEST)]
        assert training[0].prompt.startswith("<image>\n") and training[0].target == test[0].target


def test_other_names_of_the_same_downloads(tmp_path: Path) -> None:
    write_ucit(tmp_path / "a", old_names=True)
    write_dcl(tmp_path / "b", name="MLLM-CL")

    for suite, folder in (("ucit", "a"), ("mllm-dcl", "b")):
        for task in tasks_of(suite, tmp_path / folder).values():
            assert len(check_task(task, "training")) == TRAIN and len(check_task(task, "test")) == TEST


def test_downloads_as_other_projects_unpack_them(tmp_path: Path) -> None:
    """HiDe-LLaVA's README has UCIT's files in `instructions`, images beside it; CoIN's files may be in the root."""
    write_ucit(tmp_path)
    ucit = tmp_path / "UCIT"
    sets = [path for path in ucit.iterdir() if path.name != "datasets"]
    (ucit / "instructions").mkdir()
    for folder in sets:
        folder.rename(ucit / "instructions" / folder.name.removesuffix("-Math"))
    write_coin(tmp_path)
    (tmp_path / "playground" / "Instructions_Original").rename(tmp_path / "Instructions_Original")

    for suite, where in (("ucit", ucit), ("ucit", ucit / "instructions"), ("coin", tmp_path)):
        tasks = tasks_of(suite, None, f"data_folders.{suite}={where}", "rules.caption=strict")
        assert len(tasks) >= 6
        for task in tasks.values():
            assert len(check_task(task, "training")) >= TRAIN and len(check_task(task, "test")) >= TEST


def test_three_downloads_may_lie_in_three_places(root: Path) -> None:
    folders = f"data_folders={{dcl: {root / 'Domain_data'}, ucit: {root / 'UCIT'}, coin: {root}}}"
    older = "tasks=[dcl_ad, coin_imagenet, ucit_flickr30k, dcl_fin, coin_scienceqa, coin_textvqa]"

    tasks = tasks_of("cvit", None, folders, older, "rules.caption=strict")

    assert all(len(check_task(task, "test")) >= TEST for task in tasks.values())


def test_every_set_of_smolora_is_read_and_scored_by_its_rules(root: Path) -> None:
    pytest.importorskip("pycocoevalcap", reason="the extra `captions` is not installed")
    names = [
        "scienceqa",
        "textvqa",
        "flickr30k",
        "imagenet",
        "gqa",
        "vqav2",
        "vizwiz",
        "textcaps",
        "ocrvqa",
        "places365",
    ]
    tasks = tasks_of("smolora", root, f"tasks=[{', '.join(f'smolora_{name}' for name in names)}]")

    found = {}
    for name, task in tasks.items():
        assert len(check_task(task, "training")) == TRAIN and len(check_task(task, "test")) == TEST
        (metric,) = task.process_results(task.eval_docs[0], [" Red "])
        found[name.removeprefix("smolora_")] = metric, task.eval_docs[0]["scoring"]
    captions = {"flickr30k": ("cider_swapped", "smolora/caption"), "textcaps": ("cider", "smolora/textcaps")}
    kinds = {"vqav2": "exact", "vizwiz": "exact", "places365": "imagenet"}
    assert found == captions | {
        name: ("accuracy", f"smolora/{kinds.get(name, name)}") for name in names if name not in captions
    }
    flickr = tasks["smolora_flickr30k"].eval_docs[1]
    assert flickr["references"] == ["A green square is here .", "there is a green square"]
    assert tasks["smolora_scienceqa"].eval_docs[0]["choices"] == 2


def test_imagenet_of_smolora_is_scored_by_a_rows_place_and_not_by_its_id(tmp_path: Path) -> None:
    golds = ["Great White Shark", "tench"]
    rows = [{"question_id": "same", "image": "red.png", "text": "what ?", "answer": gold} for gold in golds]
    task = own_task(tmp_path, test=rows, scoring="smolora/imagenet")

    def scores(*said: str) -> list[float]:
        return [
            task.process_results(row, [answer])["accuracy"] for row, answer in zip(task.eval_docs, said, strict=True)
        ]

    # By their id both rows would have one of the two golds.
    assert scores("a shark, great white shark", "TENCH") == [1, 1]
    assert scores("tench", "great white shark") == [0, 0]
    assert scores("tench", "tench") == [0, 1]
    assert scores("shark", "shark") == [1, 0]
    assert len({sample.id for sample in check_task(task, "test")}) == 2


def test_smolora_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    write_smolora(tmp_path / "downloads" / "SMoLoRA")
    write_smolora(tmp_path / "elsewhere")

    places = ((tmp_path / "downloads", []), (None, [f"data_folders.smolora={tmp_path / 'elsewhere'}"]))
    for folder, settings in places:
        for task in tasks_of("smolora", folder, *settings).values():
            assert len(check_task(task, "test")) == TEST


def test_suffixes_are_the_projects_and_of_test_questions_only(root: Path) -> None:
    tasks = tasks_of("mllm-dcl", root)
    fin, med = check_task(tasks["dcl_fin"], "test"), check_task(tasks["dcl_med"], "test")

    assert fin[0].prompt == "<image>\nhow is this Fin ? Only answer with yes or no directly."
    assert fin[1].prompt.endswith(" Answer with the given letter directly, e.g., A, B, C, D.")
    assert med[0].prompt.endswith("? Answer the question with a single word (or phrase).")
    assert check_task(tasks["dcl_fin"], "training")[0].prompt == "<image>\nhow is this Fin ?"


def test_rules_are_the_tasks_own_or_the_suites(root: Path) -> None:
    def score(said: str, *settings: str) -> float:
        task = tasks_of("coin", root, *settings)["coin_imagenet"]
        return task.process_results(task.eval_docs[0], [f" {said} "])["accuracy"]

    assert score("") == 1
    assert score("", "rules=strict") == 0
    assert score("", "rules.imagenet=strict") == 0
    assert score("", "rules.gqa=strict") == 1
    with pytest.raises(UserError, match="The rules 'mcitlib' do not score .* 'textvqa': coin, smolora and strict do"):
        tasks_of("coin", root, "rules=mcitlib")


def test_annotations_are_joined(root: Path) -> None:
    coin = tasks_of("coin", root)
    textvqa, science = coin["coin_textvqa"].eval_docs[1], coin["coin_scienceqa"].eval_docs[1]
    caption = tasks_of("ucit", root, "rules.caption=strict")["ucit_flickr30k"].eval_docs[1]

    assert textvqa["answers"] == ["green"] * 10
    assert science["choices"] == 2
    assert caption["references"] == ["a green square in the picture", "there is a green square here"]


def test_a_strangers_json_is_a_task_of_ten_lines(tmp_path: Path) -> None:
    task = own_task(tmp_path)

    assert len((tmp_path / "mine.yaml").read_text().splitlines()) == 10
    assert [sample.prompt for sample in check_task(task, "training")] == ["<image>\nwhat ?"] * 2
    assert task.process_results(task.eval_docs[0], ["Red."]) == {"accuracy": 1.0}


def test_several_images_and_several_exchanges(tmp_path: Path) -> None:
    turns = ["<image> and <image> ?", "red", "which is left ?", "blue"]
    conversation = [{"from": ("human", "gpt")[i % 2], "value": turn} for i, turn in enumerate(turns)]
    row = {"id": 7, "image": ["red.png", "red.png"], "conversations": conversation}

    task = own_task(tmp_path, train=[row], test=[row])
    (trained,) = check_task(task, "training")
    first, second = check_task(task, "test")

    assert (trained.id, trained.prompt, trained.target) == ("7", "<image>\n<image>\nand  ?", "red")
    assert trained.further == [("which is left ?", "blue")]
    assert (first.id, first.prompt, first.target) == ("7/0", "<image>\n<image>\nand  ?", "red")
    assert (second.id, second.prompt, second.target) == ("7/1", "<image>\n<image>\nwhich is left ?", "blue")
    assert len(trained.images) == len(first.images) == len(second.images) == 2
    assert not first.further and not second.further


def test_other_keys_of_a_row_are_not_taken_for_ours(tmp_path: Path) -> None:
    odd = {"problem": "none", "file": "x", "row": "y", "choices": ["a"], "scoring": "z", "references": []}
    rows = [{**odd, "question_id": 1, "text": "what ?", "answer": "red", "category": "colour"}]

    task = own_task(tmp_path, test=rows)

    assert check_task(task, "test")[0].target == "red"
    assert task.process_results(task.eval_docs[0], ["red"]) == {"accuracy": 1.0}
    assert task.eval_docs[0]["category"] == "colour"


def test_ids_are_as_given_and_unique(tmp_path: Path) -> None:
    rows = [{"question_id": name, "text": "what ?", "answer": "red"} for name in (5, "x", 5)]
    del rows[1]["question_id"]

    assert [sample.id for sample in check_task(own_task(tmp_path, test=rows), "test")] == ["5", "1", "5#2"]


GOOD = train_row(0, "red.png", "what ?", "red")
NO_ANSWER = [GOOD["conversations"][0], {"from": "gpt", "value": None}]
UNANSWERED = [{"from": "human", "value": "and ?"}, {"from": "gpt", "value": " "}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 1, "image": "red.png"}, "has neither `conversations` nor `text` (its keys: id, image)"),
        ({**GOOD, "conversations": "what ?"}, '`conversations` is no list of {"from", "value"}'),
        ({**GOOD, "conversations": GOOD["conversations"][:1]}, "does not go from human to gpt in turns"),
        ({**GOOD, "conversations": NO_ANSWER}, '`conversations` is no list of {"from", "value"}'),
        ({**GOOD, "image": ["red.png", "red.png"]}, "it has 1 <image> in its text and 2 images"),
        ({"id": 1, "conversations": GOOD["conversations"]}, "it has 1 <image> in its text and 0 images"),
        ({**GOOD, "image": 3}, "`image` is 3, expected a path or a list of paths"),
        ("what ?", "it is no JSON object but str"),
        ({**GOOD, "image": "../red.png"}, "leaves the folder"),
        ({**GOOD, "image": "/etc/red.png"}, "leaves the folder"),
        ({**GOOD, "image": "gone.png"}, "gone.png of row 1 of"),
        ({**GOOD, "image": "text.png"}, "cannot be decoded: UnidentifiedImageError"),
        (train_row(1, "red.png", "what ?", ""), "has no answer"),
        ({**GOOD, "id": 1, "conversations": GOOD["conversations"] + UNANSWERED}, "has no answer"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_read(tmp_path: Path, row: Any, message: str) -> None:
    task = own_task(tmp_path, train=[GOOD, row, {**GOOD, "id": "last"}])
    (tmp_path / "text.png").write_text("no image")

    first, bad, last = inspect_task(task, "training")

    assert isinstance(first, Sample) and isinstance(last, Sample)
    assert isinstance(bad, UserError) and message in str(bad)
    assert "train.json:1)" in str(bad) or "row 1 of" in str(bad) or "no answer" in str(bad)
    assert isinstance(bad, MissingImage) == ("gone" in message)


BOXED = {
    "text": "where ?",
    "answer": "here",
    "image": "red.png",
    "answer_bbox": "[0.1, 0.2, 0.5, 0.6]",
    "size": [30, 24],
}


@pytest.mark.parametrize(
    ("scoring", "row", "message"),
    [
        ("coin/grounding", {**BOXED, "size": None}, "`size` is None, expected the image's width and height"),
        ("coin/grounding", {**BOXED, "answer_bbox": "[0.1, 0.2, 0.5]"}, "expected four numbers"),
        ("strict/grounding", {**BOXED, "answer_bbox": "there"}, "`answer_bbox` is 'there', expected four numbers"),
        (
            "coin/textvqa",
            {"text": "what ?", "answer": ["red", "dark red"]},
            "has 2 answers: its score needs exactly 10",
        ),
    ],
)
def test_a_test_row_that_cannot_be_scored_is_found_before_anything_is_generated(
    tmp_path: Path, scoring: str, row: Any, message: str
) -> None:
    good = {**BOXED, "question_id": 0} | ({"answer": ["red"] * 10} if scoring == "coin/textvqa" else {})

    first, bad, last = inspect_task(
        own_task(tmp_path, test=[good, {**row, "question_id": 1}, {**good, "question_id": 2}], scoring=scoring), "test"
    )

    assert isinstance(first, Sample) and isinstance(last, Sample)
    assert isinstance(bad, UserError) and message in str(bad)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[\n{"question_id": 1},\n]', r"test.json:[23]:\d+ is not valid JSON .*a comma too many"),
        ("{}", "test.json holds no rows: expected a JSON list"),
        ("[]", "test.json holds no rows"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    own_task(tmp_path)
    (tmp_path / "test.json").write_text(content)

    with pytest.raises(UserError, match=message):
        load_tasks(["mine"], [tmp_path])


def test_a_wrong_or_half_downloaded_folder(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none is named: give --data-root FOLDER"):
        tasks_of("ucit", None)
    with pytest.raises(UserError, match=r"UCIT of the download 'ucit' does not exist: get it from .*HiDe-LLaVA"):
        tasks_of("ucit", tmp_path)
    write_ucit(tmp_path)
    (tmp_path / "UCIT" / "IconQA" / "test.json").unlink()
    with pytest.raises(
        UserError, match=r"no test file in .*\(looked for IconQA/test.json, IconQA/test_3000.json\): get"
    ):
        tasks_of("ucit", tmp_path)
    write_ucit(tmp_path)
    (tmp_path / "UCIT" / "Flickr30k" / "val_coco_type_3000.json").unlink()
    with pytest.raises(UserError, match="There is no annotation file in"):
        tasks_of("ucit", tmp_path)


def test_annotations_that_do_not_fit(root: Path, tmp_path: Path) -> None:
    write_ucit(tmp_path)
    file = tmp_path / "UCIT" / "VizWiz" / "val_coco_type_3000.json"
    content = json.loads(file.read_text())
    write_json(file, {**content, "annotations": content["annotations"][:-2]})

    with pytest.raises(
        UserError, match="has captions of 3 images and .*test.json 4 rows: expected image ids from 1 to 4"
    ):
        tasks_of("ucit", tmp_path)


def test_the_training_file_is_read_only_where_something_trains(tmp_path: Path) -> None:
    own_task(tmp_path)
    (tmp_path / "train.json").write_text("[")

    splits = load(config_source=str(tmp_path / "mine.yaml"))

    assert len(splits["test"]) == 2
    with pytest.raises(UserError, match=r"train.json:1:\d+ is not valid JSON"):
        splits["train"]
