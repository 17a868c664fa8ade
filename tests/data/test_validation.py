"""Sets checked to the end: real lm-eval tasks on small files."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from hpa_bench.data.leakage import Leak
from hpa_bench.data.samples import Kind, Sample
from hpa_bench.data.tasks import TaskLoader
from hpa_bench.data.validation import SetReport, inspect_sets, leaks_of

UTILS = """
from pathlib import Path
import datasets
from PIL import Image
from hpa_bench.data.downloads import image_path

def load(rows, **_):
    return datasets.DatasetDict({split: datasets.Dataset.from_list(found) for split, found in rows.items()})

def images(doc):
    return [Image.open(image_path(Path(__file__).parent, doc["image"], f"row {doc['id']!r}"))]
"""


def row(name: str, image: str = "red.png", answer: str = "red") -> dict[str, str]:
    return {"id": name, "question": f"<image> {name} ?", "answer": answer, "image": image}


def write_task(folder: Path, name: str, splits: dict[str, list[dict[str, str]]], **settings: Any) -> None:
    (folder / "utils.py").write_text(UTILS)
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    Image.effect_noise((64, 64), 50).save(folder / "noise.png")
    whole = (folder / "noise.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    config = {
        "task": name,
        "dataset_kwargs": {"rows": splits},
        "training_split": "train",
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "exact_match"}],
        **settings,
    }
    functions = "custom_dataset: !function utils.load\ndoc_to_image: !function utils.images\n"
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config) + functions)


def inspect(folder: Path, kind: Kind = "task", deep: bool = False, name: str = "colours") -> SetReport:
    (report,) = inspect_sets({name: kind}, TaskLoader([folder], "test", {}), "test", deep)
    return report


def test_a_good_set_has_the_splits_that_its_kind_uses(tmp_path: Path) -> None:
    write_task(tmp_path, "colours", {"train": [row("a"), row("b")], "test": [row("c")]})

    found = {kind: inspect(tmp_path, kind).samples for kind in ("task", "safety", "source")}

    assert {split: [sample.id for sample in samples] for split, samples in found["task"].items()} == {
        "training": ["a", "b"],
        "test": ["c"],
    }
    assert list(found["safety"]) == ["test"] and list(found["source"]) == ["training"]
    assert inspect(tmp_path).good


def test_all_that_is_wrong_is_listed_and_the_rest_is_kept(tmp_path: Path) -> None:
    wrong = [row("a"), row("b", image="gone.png"), row("c", answer=""), row("a"), row("d")]
    write_task(tmp_path, "colours", {"train": wrong, "test": [row("t")]})

    report = inspect(tmp_path)

    assert [sample.id for sample in report.samples["training"]] == ["a", "d"]
    (missing,) = report.missing
    assert "gone.png" in missing and "'b'" in missing
    empty, again = report.bad
    assert "'c'" in empty and "has no answer" in empty and "'a' stands twice" in again
    assert not report.good


def test_a_set_that_cannot_be_loaded_is_an_error_and_the_next_is_read(tmp_path: Path) -> None:
    splits = {"train": [row("a")], "test": [row("b")]}
    write_task(tmp_path, "colours", splits)
    write_task(tmp_path, "likely", splits, output_type="loglikelihood")

    report, other = inspect_sets({"likely": "task", "colours": "task"}, TaskLoader([tmp_path], "test", {}), "test")

    assert "output_type loglikelihood" in report.error and report.samples == {} and not report.good
    assert other.good


def test_a_split_that_is_missing_is_bad(tmp_path: Path) -> None:
    write_task(tmp_path, "colours", {"test": [row("b")]}, training_split=None)

    report = inspect(tmp_path)

    assert len(report.bad) == 1 and "has no training split" in report.bad[0]
    assert [sample.id for sample in report.samples["test"]] == ["b"]
    assert inspect(tmp_path, "safety").good


def test_a_torn_image_is_bad_at_any_depth(tmp_path: Path) -> None:
    write_task(tmp_path, "colours", {"train": [row("a", image="torn.png")], "test": [row("b")]})

    for deep in (False, True):
        report = inspect(tmp_path, deep=deep)
        assert len(report.bad) == 1 and "torn.png" in report.bad[0] and report.samples["training"] == []


@pytest.mark.parametrize(("suffix", "found"), [("Briefly.", ("Briefly.",)), ({"x": "A.", "y": "B."}, ("A.", "B."))])
def test_what_questions_may_end_with_is_reported(suffix: Any, found: tuple[str, ...], tmp_path: Path) -> None:
    splits = {"train": [row("a")], "test": [row("b")]}
    write_task(tmp_path, "colours", splits, dataset_kwargs={"rows": splits, "suffix": suffix})

    assert inspect(tmp_path).suffixes == found


@pytest.mark.parametrize("field", ["error", "scoring", "missing", "bad"])
def test_anything_wrong_makes_a_set_unusable(field: str) -> None:
    wrong: Any = {field: ["x"] if field in ("missing", "bad") else "x"}

    assert SetReport("a", "task").good and not SetReport("a", "task", **wrong).good


def report(name: str, kind: Kind, suffixes: tuple[str, ...] = (), **splits: list[str]) -> SetReport:
    """A report on samples without images, by their questions."""
    samples: Any = {
        split: [Sample(f"{name}{place}", name, question, "a", []) for place, question in enumerate(questions)]
        for split, questions in splits.items()
    }
    return SetReport(name, kind, samples=samples, suffixes=suffixes)


def test_test_samples_are_looked_for_in_all_training_data() -> None:
    reports = [
        report("x", "task", training=["one ?", "two ?"], test=["Two", "three ?"]),
        report("s", "safety", test=["one?", "five ?"]),
        report("src", "source", training=["three ?"]),
    ]

    assert sorted(leaks_of(iter(reports))) == [
        Leak("s", "x", [("s0", "x0")]),
        Leak("x", "src", [("x1", "src0")]),
        Leak("x", "x", [("x0", "x1")]),
    ]


def test_what_a_source_holds_beside_its_training_data_is_tested_by_nobody() -> None:
    assert leaks_of([report("src", "source", training=["one ?"], test=["one ?"])]) == []


def test_a_sets_own_suffix_does_not_hide_a_leak() -> None:
    training = report("x", "task", training=["one ?"])

    assert leaks_of([training, report("y", "safety", (" Answer briefly.",), test=["one ? Answer briefly."])])
    assert not leaks_of([training, report("y", "safety", test=["one ? Answer briefly."])])
