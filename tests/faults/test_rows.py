"""Every column of a data row, in every format that is read, with each fault; `validate` and a run must agree on it."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from hpa_bench.data.samples import Sample
from hpa_bench.errors import UserError
from hpa_bench.files import write_jsonl
from hpa_bench.runner.inputs import RunData
from hpa_bench.spec import RunOptions, make_spec
from tests.faults.conftest import Note
from tests.support.downloads import draw, train_row
from tests.support.faults import command, outcome
from tests.support.safety_downloads import WRITERS

pytestmark = pytest.mark.faults

LIMIT = 20.0
HUGE = 50 * 10**6
MARKUP = "[red]a[/red] <b>&lt;</b> {{question}} {% raw %} ${x} \x1b[31mb\x1b[0m </s> <|im_end|> c"
FAULTS: dict[str, tuple[Any, ...]] = {
    "absent": (),
    "null": (None,),
    "wrong type": ([["a"]], {"a": 1}),
    "huge": ("x" * 2**20, "x" * HUGE),
    "surrogate": ("a\ud800b",),
    "markup": (MARKUP,),
}
Column = tuple[str | int, ...]
"""The way from a row to a value."""


class Set(NamedTuple):
    """A set of some format, and the row that is spoilt."""

    name: str
    kind: str
    """The suite's key that names it."""
    file: str
    """Which holds the row."""
    row: Column
    """The way from the file's content to the row."""
    columns: tuple[Column, ...]
    write: Callable[[Path], object]
    """Writes what is whole below a folder."""


def task_yaml(name: str, text: str, image: str, more: str) -> str:
    return (
        f"task: {name}\ntraining_split: train\ntest_split: test\noutput_type: generate_until\n"
        f"doc_to_text: '{text}'\ndoc_to_target: answer\ndoc_to_image: !function {image}\n"
        f"generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 6}}\n{more}"
    )


def write_llava(folder: Path) -> None:
    for number in range(4):
        draw(folder / "images" / f"{number}.png", "red", number)
    train = [train_row(i, f"images/{i}.png", f"what is {i} ?", "red") for i in (0, 1)]
    test: list[dict[str, Any]] = [
        {"question_id": f"q{i}", "image": f"images/{i}.png", "text": "where ?", "answer": "[0, 0, 1, 1]"}
        for i in (2, 3)
    ]
    test = [row | {"category": "a", "answer_bbox": "[0, 0, 1, 1]", "size": [30, 24]} for row in test]
    write(folder / "train.json", train)
    write(folder / "test.json", test)
    (folder / "llava.yaml").write_text(
        task_yaml(
            "llava",
            "question",
            "hpa_bench.llava_format.doc_to_image",
            "custom_dataset: !function hpa_bench.llava_format.load\n"
            "dataset_kwargs: {scoring: coin/grounding}\nprocess_results: !function hpa_bench.llava_format.score\n"
            "metric_list: [{metric: accuracy, aggregation: mean, higher_is_better: true}]\n",
        )
    )


IMAGES = """
from pathlib import Path
from hpa_bench.data.downloads import image_path
from hpa_bench.data.images import open_image

def images(doc):
    return [open_image(image_path(Path(__file__).parent, doc["image"], "a row"))]
"""


def write_table(kind: str) -> Callable[[Path], None]:
    """Return what writes a task that lm-eval reads by the `datasets` library."""

    def write_all(folder: Path) -> None:
        rows = []
        for number in range(4):
            draw(folder / f"{number}.png", "red", number)
            row = {"id": f"r{number}", "question": f"<image> what is {number} ?", "answer": "red"}
            labels = {"category": "a", "request": "b", "cluster": f"c{number}", "spare": "d"}
            rows.append(row | {"image": f"{number}.png"} | labels)
        ending = {"json": "jsonl", "parquet": "parquet"}[kind]
        for split, found in (("train", rows[:2]), ("test", rows[2:])):
            write(folder / f"{split}.{ending}", found)
        files = {split: str(folder / f"{split}.{ending}") for split in ("train", "test")}
        (folder / "table_images.py").write_text(IMAGES)
        (folder / f"{kind}_table.yaml").write_text(
            task_yaml(
                f"{kind}_table",
                "{{question}}",
                "table_images.images",
                f"dataset_path: {kind}\ndataset_kwargs: {json.dumps({'data_files': files})}\n"
                "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n",
            )
        )

    return write_all


def download(name: str) -> Callable[[Path], object]:
    return lambda folder: WRITERS[name](folder / name)


TABLE = tuple((name,) for name in ("id", "question", "answer", "image", "category", "request", "cluster", "spare"))
SETS = (
    Set(
        *("llava", "tasks", "train.json", (1,)),
        (
            ("id",),
            ("image",),
            ("conversations",),
            *(("conversations", i, k) for i in (0, 1) for k in ("from", "value")),
        ),
        write_llava,
    ),
    Set(
        *("llava", "tasks", "test.json", (1,)),
        (("question_id",), ("image",), ("text",), ("answer",), ("category",), ("answer_bbox",), ("size",)),
        write_llava,
    ),
    Set("json_table", "tasks", "test.jsonl", (1,), TABLE, write_table("json")),
    Set("parquet_table", "tasks", "test.parquet", (1,), TABLE, write_table("parquet")),
    Set(
        *("vlguard_unsafes", "safety_sets", "VLGuard/test.json", (1,)),
        (
            *((key,) for key in ("id", "image", "safe", "harmful_category", "harmful_subcategory", "instr-resp")),
            *(("instr-resp", 0, key) for key in ("instruction", "response")),
        ),
        download("VLGuard"),
    ),
    Set(
        *("ch3ef", "safety_sets", "Ch3Ef/meta_file/Harmless.json", ("items", 1)),
        (*((key,) for key in ("id", "image", "query", "options", "source")), ("image", 0), ("options", 0)),
        download("Ch3Ef"),
    ),
    Set(
        *("mm_safetybench", "safety_sets"),
        *("MM-SafetyBench/data/processed_questions/01-Illegal_Activitiy.json", ("10",)),
        tuple((key,) for key in ("Question", "Rephrased Question", "Rephrased Question(SD)")),
        download("MM-SafetyBench"),
    ),
    Set(
        *("figstep", "safety_sets", "FigStep/data/question/safebench.csv", (1,)),
        tuple((key,) for key in ("dataset", "category_id", "task_id", "category_name", "question")),
        download("FigStep"),
    ),
    Set(
        *("xstest_unsafe", "safety_sets", "xstest/xstest_prompts.csv", (2,)),
        tuple((key,) for key in ("id", "prompt", "type", "label")),
        download("xstest"),
    ),
    Set(
        *("spa_vl_test", "safety_sets", "SPA-VL/test/harm-00000-of-00001.parquet", (1,)),
        tuple((key,) for key in ("question", "class1", "class2", "image")),
        download("SPA-VL"),
    ),
)


def read(file: Path) -> Any:
    if file.suffix == ".parquet":
        return pyarrow.parquet.read_table(file).to_pylist()
    if file.suffix == ".csv":
        return list(csv.DictReader(file.open(newline="")))
    text = file.read_text()
    return [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)


def write(file: Path, content: Any) -> None:
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), file)
    elif file.suffix == ".csv":
        with file.open("w", newline="", errors="surrogatepass") as opened:
            writer = csv.DictWriter(opened, dict.fromkeys(key for row in content for key in row))
            writer.writeheader()
            writer.writerows(content)
    else:
        rows = "\n".join(map(json.dumps, content)) if file.suffix == ".jsonl" else json.dumps(content)
        file.write_text(rows)


def content_of(content: Any, found: Set, column: Column) -> Any:
    return reduce(lambda inside, key: inside[key], (*found.row, *column), content)


def spoilt(content: Any, found: Set, column: Column, value: tuple[Any, ...]) -> Any:
    """Return a file's content with another value, or none, in a column of the row, or of all where a table needs it."""
    content = copy.deepcopy(content)
    text = bool(value) and isinstance(value[0], str | None) and not isinstance(content_of(content, found, column), dict)
    tabular = Path(found.file).suffix in (".parquet", ".csv") and not text
    rows = content if tabular else [reduce(lambda inside, key: inside[key], found.row, content)]
    for row in rows:
        place = reduce(lambda inside, key: inside[key], column[:-1], row)
        if value:
            place[column[-1]] = value[0]
        else:
            del place[column[-1]]
    return content


def cases(found: Set, fault: str) -> Iterator[tuple[Column, tuple[Any, ...]]]:
    values = [(value,) for value in FAULTS[fault]] or [()]
    ending = Path(found.file).suffix
    if (ending == ".csv" and fault == "wrong type") or (ending == ".parquet" and fault == "surrogate"):
        return  # The format cannot say it.
    for column in found.columns:
        # One column of a set has the whole 50 MB: it takes a second to write and to read.
        few = values[:1] if fault == "huge" and column != found.columns[-1] else values
        yield from ((column, value) for value in few)


Fields = dict[str, dict[str, Any]]


def fields(samples: list[Sample]) -> Fields:
    return {
        sample.id: {
            "prompt": sample.prompt,
            "target": sample.target,
            "further": list(sample.further),
            "about": dict(sample.about),
            "images": len(sample.images),
        }
        for sample in samples
    }


class Bench:
    """A set in a suite of its own, read as `validate` does, and as a run does before it loads a model."""

    def __init__(self, folder: Path, found: Set) -> None:
        self.folder, self.set = folder, found
        folder.mkdir()
        write_llava(folder)
        found.write(folder)
        suite: dict[str, Any] = {"name": "faults", "model": None, "tasks": ["llava"], "include_paths": ["."]}
        suite[found.kind] = [found.name]
        self.suite = folder / "faults.yaml"
        self.suite.write_text(yaml.safe_dump(suite))
        self.file = folder / found.file
        self.whole = read(self.file)
        self.right = self.samples()
        self.ids = [f"sample {name!r}" for rows in self.right.values() for name in rows]

    def samples(self) -> dict[str, Fields]:
        """Return the samples by split.

        Raises:
            UserError: what both say; an AssertionError where one takes what the other refuses.
        """
        data = ["--data-root", str(self.folder)]
        try:
            said = command("validate", "--suite", self.suite, *data, "--no-leakage")
        except UserError as error:
            said, refused = str(error), True
        else:
            refused = False
        assert len(said) < 5000 and "\x1b" not in said
        spec = make_spec(RunOptions(str(self.suite), "seqft", data_root=str(self.folder)), model=False)
        trained = [self.set.name] if self.set.kind == "tasks" else []
        try:
            run = RunData(spec, trained)
        except UserError:
            assert refused, f"validate passes what a run refuses: {said}"
            raise
        assert not refused, f"a run takes what validate refuses: {said}"
        found = {"test": run.samples[self.set.name]} | {f"train {name}": run.training[name] for name in trained}
        # A run keeps them: what cannot be written would break it late.
        write_jsonl(self.folder / "kept.jsonl", (sample for rows in found.values() for sample in fields(rows).values()))
        return {split: fields(rows) for split, rows in found.items()}

    def is_right(self, fault: str, samples: dict[str, Fields], column: Column) -> bool:
        """Whether nothing but what the column says has changed, and that as it must."""
        wrong: list[Any] = []
        for split, whole in self.right.items():
            if len(samples[split]) != len(whole):
                return False
            for (name, before), (other, now) in zip(whole.items(), samples[split].items(), strict=True):
                changed = [key for key in before if before[key] != now[key]] + (["id"] if name != other else [])
                texts = {**now, **now["about"], "id": other}
                if fault == "markup":
                    changed += [key for key, text in now["about"].items() if text != before["about"][key]]
                    wrong += [key for key in changed if key != "about" and MARKUP not in str(texts[key])]
                elif fault in ("absent", "null"):
                    may = {"id", "about", *(("target",) if self.set.kind == "safety_sets" else ())}
                    may |= {"images", "prompt"} if column[0] == "image" else set()
                    wrong += set(changed) - may
                    wrong += [key for key, text in texts.items() if "None" in str(text)]
                    wrong += [key for key, text in now["about"].items() if text not in before["about"][key]]
                else:
                    wrong += changed
        return not wrong


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("found", SETS, ids=lambda found: found.file.replace("/", "-"))
def test_validate_and_a_run_agree_on_a_row(found: Set, tmp_path: Path, note: Note) -> None:
    bench = Bench(tmp_path / "data", found)
    for fault in FAULTS:
        for column, value in cases(found, fault):
            write(bench.file, spoilt(bench.whole, found, column, value))
            names = [found.name, found.file.rpartition("/")[2], str(column[-1]), *bench.ids]
            took = outcome(
                bench.samples,
                names,
                right=lambda samples: bench.is_right(fault, samples, column),  # noqa: B023
                limit=LIMIT,
            )
            shown = str(value)[:80]
            note("column of a row", fault, f"{found.file} {column}: {shown}: {took.outcome}", took)
    write(bench.file, bench.whole)
    assert bench.samples() == bench.right
