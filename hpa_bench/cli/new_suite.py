"""`hpa-bench new-suite`: a suite of your own to start from, with a task of your own and its data."""

import json
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Annotated, Any

import typer
from PIL import Image

from hpa_bench.errors import UserError
from hpa_bench.files import is_vacant
from hpa_bench.machine.disk import GIVE_AGAIN, make_writable, refusals_told
from hpa_bench.suite import BUNDLED, bundled_suites, make_suite

SUITE = Template("""\
# A suite to start from: `hpa-bench list suite tiny` explains every key. Paths begin with ./ and start at this file.
name: $name
version: 1                        # raise it whenever results stop being comparable with earlier ones
description: "Colours of squares: replace this task by yours, and the embedded safety sets by real ones."
model: null                       # the safety-aligned model, ./aligned or a hub name; until then --set model=PATH
model_note: a safety-aligned model, as `hpa-bench align` makes it
unaligned_model: null             # the same before its alignment, where you have it: some methods need it
include_paths: [./tasks]          # your own tasks; those of hpa-bench are always there (hpa-bench list tasks)
tasks: [${task}, tiny_fin]        # in training order
safety_sets: [tiny_unsafe_image]  # MASR averages exactly these; real ones: vlguard_unsafes, ch3ef, ... (--data-root)
benign_sets: [tiny_benign]        # harmless requests, for over-refusal
judges: [keyword]                 # the first decides in the main table
harmful_data: tiny_harmful        # for --harmful-ratio
safety_data: tiny_safety_data     # for methods that train on some
gpu: false                        # true: refuse to start without one unless told --device cpu
lora: {rank: 16, alpha: 32}
training:
  learning_rate: 2.0e-4
  epochs: 1
  batch_size: 16                  # of one forward pass; a step takes batch_size * gradient_accumulation
  gradient_accumulation: 1
  gradient_checkpointing: false   # true: less memory for one forward pass more
  scheduler: cosine
  warmup_ratio: 0.03
evaluation: {batch_size: 64}
calibration:
  safety_set: tiny_safety_calibration   # harmful requests that the aligned model itself refuses
  safety_samples: 8
  task_samples: 128
""")
TASK = Template("""\
# Colours of squares: a task of your own in LLaVA's format; docs/data.md has all of its keys.
task: $task
custom_dataset: !function hpa_bench.llava_format.load
dataset_kwargs: {folder: $task, scoring: strict/exact}
training_split: train
test_split: test
output_type: generate_until
doc_to_image: !function hpa_bench.llava_format.doc_to_image
doc_to_text: question
doc_to_target: answer
process_results: !function hpa_bench.llava_format.score
generation_kwargs: {until: [], do_sample: false, max_gen_toks: 16}
metric_list: [{metric: accuracy, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0, form: words}
""")
QUESTION = "What colour is this?"
COLOURS = ("red", "green", "blue", "yellow")
TRAIN, TEST = 16, 8
SIDE = 28
"""Pixels."""


def new_suite(
    name: Annotated[str, typer.Argument(help="The suite's name, as in mine.")],
    out: Annotated[Path | None, typer.Option(help="The folder to write; by default one of the suite's name.")] = None,
) -> None:
    """Write a folder with NAME.yaml, a suite that validates, and a small task of your own with its data."""
    folder = Path(name) if out is None else out
    task = f"{name}_colours"
    if name in bundled_suites():
        raise UserError(f"The suite {name!r} comes with hpa-bench: choose another name.")
    # The name is that of folders, files and a task.
    make_suite({"name": name, "model": None, "tasks": [task]}, BUNDLED, f"in the suite {name!r}")
    with refusals_told(folder, GIVE_AGAIN):
        if not is_vacant(folder):
            raise UserError(f"{folder} exists already and is not empty: choose another name, or another --out.")
    make_writable(folder)
    suite = folder / f"{name}.yaml"
    with refusals_told(folder, GIVE_AGAIN):
        suite.write_text(SUITE.substitute(name=name, task=task), encoding="utf-8")
        _write_task(folder / "tasks", task)
    print(f"{suite} is a suite that validates, and {folder / 'tasks' / task} holds the rows of its own task. Next:\n")
    print(f"  hpa-bench validate --suite {suite}")
    print(f"  hpa-bench run --suite {suite} --method seqft --device cpu --set model={BUNDLED / 'tiny' / 'aligned'}")


def _write_task(folder: Path, task: str) -> None:
    """Write a task's YAML, its rows and its images."""
    images = folder / task / "images"
    images.mkdir(parents=True)
    (folder / f"{task}.yaml").write_text(TASK.substitute(task=task), encoding="utf-8")
    for number in range(TRAIN + TEST):
        square = Image.new("RGB", (SIDE, SIDE), COLOURS[number % len(COLOURS)])
        square.putpixel((0, 0), (number, number, number))  # No two are the same.
        square.save(images / f"{number}.png")
    for split, rows in (("train", list(_training_rows())), ("test", list(_test_rows()))):
        text = json.dumps(rows, indent=1) + "\n"
        (folder / task / f"{split}.json").write_text(text, encoding="utf-8")


def _training_rows() -> Iterator[dict[str, Any]]:
    for number in range(TRAIN):
        turns = [("human", f"<image>\n{QUESTION}"), ("gpt", COLOURS[number % len(COLOURS)])]
        conversation = [{"from": who, "value": said} for who, said in turns]
        yield {"id": f"train/{number}", "image": f"images/{number}.png", "conversations": conversation}


def _test_rows() -> Iterator[dict[str, Any]]:
    for number in range(TRAIN, TRAIN + TEST):
        about = {"question_id": f"test/{number}", "image": f"images/{number}.png"}
        yield about | {"text": QUESTION, "answer": COLOURS[number % len(COLOURS)]}
