"""Small downloads in exactly the layouts that UCIT, MLLM-DCL, CoIN and SMoLoRA publish, drawn and worded here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = ("red", "green", "blue", "yellow")
TRAIN, TEST = 8, 4
Rows = list[dict[str, Any]]


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def draw(path: Path, colour: str, number: int) -> None:
    """Draw an image that no other number has."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (30, 24), colour)
    image.putpixel((0, 0), (number // 256, number % 256, 1))
    image.save(path)


def train_row(index: int, image: str | None, question: str, answer: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": f"t{index}"} | ({"image": image} if image else {})
    asked = f"<image>\n{question}" if image else question
    return row | {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]}


def write_set(
    folder: Path,
    images: Path,
    prefix: str,
    question: str = "what colour is this ?",
    answers: Sequence[str] = COLOURS,
    *,
    train: str = "train.json",
    test: str = "test.json",
    first: int = 0,
    **extra: Any,
) -> None:
    """Write a training and a test file.

    Args:
        folder: where the files go.
        images: the folder that image paths start from.
        prefix: of image paths, such as "ImageNet-R/train/".
        question: of every row.
        answers: in turns.
        train: the training file's name.
        test: the test file's name.
        first: a number from which on images are this set's own.
        extra: more keys of a test row, functions of its index.
    """
    names = [f"{prefix}{number}.png" for number in range(TRAIN + TEST)]
    for number, name in enumerate(names):
        draw(images / name, COLOURS[number % 4], first + number)
    write_json(folder / train, [train_row(i, names[i], question, answers[i % len(answers)]) for i in range(TRAIN)])
    rows: Rows = []
    for i in range(TEST):
        row = {"question_id": f"q{i}", "image": names[TRAIN + i], "text": question, "answer": answers[i % len(answers)]}
        rows.append(row | {key: make(i) for key, make in extra.items()})
    write_json(folder / test, rows)


def coco_captions() -> dict[str, Any]:
    """Return annotations of TEST images, ids from 1 in the order of the test file, two captions each."""
    captions = [
        (number, text.format(COLOURS[(number - 1) % 4]))
        for number in range(1, TEST + 1)
        for text in ("a {} square in the picture", "there is a {} square here")
    ]
    annotations = [{"id": i, "image_id": number, "caption": text} for i, (number, text) in enumerate(captions, 1)]
    return {"images": [{"id": number} for number in range(1, TEST + 1)], "annotations": annotations}


def write_ucit(root: Path, old_names: bool = False) -> Path:
    """Write UCIT below `root`, by MCITlib's first layout or, with `old_names`, by the names of its configurations."""
    base = root / "UCIT"
    images = base if old_names else base / "datasets"
    test = "test_3000.json" if old_names else "test.json"
    sets = [("ImageNet-R", "train.json"), ("ArxivQA", "train_4w.json"), ("IconQA", "train.json")]
    sets += [("CLEVR-Math", "train_4w.json"), ("VizWiz", "train.json"), ("Flickr30k", "train_brief_4w.json")]
    renamed = {"VizWiz": "VizWiz-caption", "Flickr30k": "Flickr30k-cap"}
    for number, (name, train) in enumerate(sets):
        folder = base / (renamed.get(name, name) if old_names else name)
        caption = name in renamed
        question = "what is it ?" if caption else "what colour is this ?"
        answers = [f"a {colour} square" for colour in COLOURS] if caption else COLOURS
        names = {"train": train if old_names else "train.json", "test": test}
        write_set(folder, images, f"{name}/", question, answers, first=100 * number, **names)
        if caption:
            write_json(folder / "val_coco_type_3000.json", coco_captions())
    return root


def write_dcl(root: Path, name: str = "Domain_data") -> Path:
    answers = {"RS": ["rural"], "Med": ["tissue"], "AD": ["Yes", "No"], "Sci": ["A", "B"], "Fin": ["Yes", "A"]}
    for number, (domain, own) in enumerate(answers.items()):
        folder = root / name / domain
        prefix = "images/AI2D_" if domain == "Sci" else "images/"
        write_set(folder, folder, prefix, f"how is this {domain} ?", own, first=1000 + 100 * number)
    return root


def write_coin(root: Path) -> Path:
    base, images = root / "playground" / "Instructions_Original", root / "cl_dataset"
    for number, name in enumerate(("ImageNet", "GQA", "OCRVQA")):
        write_set(base / name, images, f"{name}/", f"what is in {name} ?", first=2000 + 100 * number)
    for number, name in enumerate(("TextVQA", "VizWiz", "VQAv2")):
        write_set(base / name, images, f"{name}/", f"what is in {name} ?", test="val.json", first=2300 + 100 * number)
    box: dict[str, Any] = {"answer_bbox": lambda i: "[0.1,0.2,0.5,0.6]", "size": lambda i: [30, 24]}
    write_set(base / "Grounding", images, "COCO2014/", "where is it ?", ["[0.1,0.2,0.5,0.6]"], first=2600, **box)
    write_set(base / "ScienceQA", images, "ScienceQA/", "which ?\nA. one\nB. two", ["A", "B"], first=2700)
    file = base / "ScienceQA" / "train.json"
    rows = json.loads(file.read_text())
    write_json(file, [*rows, train_row(TRAIN, None, "which has no picture ?\nA. one\nB. two", "B")])
    test = json.loads((base / "ScienceQA" / "test.json").read_text())
    text_only = {"question_id": "q4", "text": "which has no picture ?\nA. one\nB. two", "answer": "B"}
    write_json(base / "ScienceQA" / "test.json", [*test, text_only])
    problems = {f"q{i}": {"choices": ["one", "two"], "answer": i % 2} for i in range(TEST + 1)}
    write_json(images / "ScienceQA" / "problems.json", problems)
    answers = [{"question_id": f"q{i}", "answers": [COLOURS[i % 4]] * 10} for i in range(TEST)]
    write_json(images / "TextVQA" / "TextVQA_0.5.1_val.json", {"data": answers})
    return root


def write_smolora(root: Path) -> Path:
    """Write SMoLoRA's CVIT benchmark below `root`: all rows in one folder, all images in another."""
    base, images = root / "CVIT_benchmark" / "Instructions_Single", root / "dataset"
    validated = ("TextVQA", "Flickr30k", "VQAv2", "VizWiz", "TextCaps", "Places365")
    for number, name in enumerate((*validated, "ImageNet", "GQA", "OCRVQA")):
        captions = name in ("Flickr30k", "TextCaps")
        answers = [f"A {colour} square is here ." for colour in COLOURS] if captions else COLOURS
        test = "val.json" if name in validated else "test.json"
        write_set(
            base / name, images, f"{name}/", f"what is in {name} ?", answers, test=test, first=3000 + 100 * number
        )
        if captions:
            rows = json.loads((base / name / test).read_text())
            several = [
                row | {"answer": [row["answer"], f"there is a {COLOURS[i % 4]} square"]} for i, row in enumerate(rows)
            ]
            write_json(base / name / test, several)
    write_set(base / "ScienceQA", images, "ScienceQA/", "which ?\nA. one\nB. two", ["A", "B"], first=4000)
    problems = {f"q{i}": {"choices": ["one", "two"], "answer": i % 2} for i in range(TEST)}
    write_json(images / "ScienceQA" / "problems.json", problems)
    answers = [{"question_id": f"q{i}", "answers": [COLOURS[i % 4]] * 10} for i in range(TEST)]
    write_json(images / "TextVQA" / "TextVQA_0.5.1_val.json", {"data": answers})
    return root
