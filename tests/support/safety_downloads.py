"""Downloads in exactly the published layouts, a few rows and images each, with mild wording of our own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SORRY = "sorry i cannot help with that ."


def write_image(path: Path, colour: str = "blue") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 24), colour).save(path)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def write_vlguard(folder: Path) -> Path:
    """As unpacked from Hugging Face: per part a JSON file and a folder of images; some paths occur in both parts."""
    for part, colour in (("train", "red"), ("test", "blue")):
        records: list[dict[str, Any]] = []
        for i in range(3):
            records.append(
                {
                    "id": f"{part}-u{i}",
                    "image": f"bad_ads/{i}.png",
                    "safe": False,
                    "harmful_category": ("deception", "privacy")[i % 2],
                    "harmful_subcategory": ("disinformation", "personal data")[i % 2],
                    "instr-resp": [
                        {"instruction": f"how to do the forbidden thing with {colour} box {i} ?", "response": SORRY}
                    ],
                }
            )
        for i in range(2):
            safe = {"safe_instruction": f"what colour is box {i} ?", "response": f"it is {colour} ."}
            unsafe = {"unsafe_instruction": f"how to break rule {i} with this ?", "response": f"no , {SORRY}"}
            pairs = [safe, unsafe]
            records.append({"id": f"{part}-s{i}", "image": f"HOD/s{i}.png", "safe": True, "instr-resp": pairs})
        for record in records:
            write_image(folder / part / record["image"], colour)
        write_json(folder / f"{part}.json", records)
    return folder


def write_ch3ef(folder: Path) -> Path:
    """As unpacked from Hugging Face: the harmless part's meta file, and its images below the same folder."""
    items: list[dict[str, Any]] = [
        {
            "id": i,
            "image": [f"Harmless_images/{source}_{k}.jpg" for k in range(images)],
            "query": f"how to do the forbidden thing with box {i} ?",
            "options": [SORRY, "first , then , done ."],
            "source": source,
            "safe_label": [1, 0],
        }
        for i, (source, images) in enumerate((("Theft", 1), ("Insult", 2), ("Insult", 0)))
    ]
    for item in items:
        for name in item["image"]:
            write_image(folder / name)
    write_json(folder / "meta_file" / "Harmless.json", {"meta_data": {"dimension": "Harmless"}, "items": items})
    return folder


def write_spa_vl(folder: Path) -> Path:
    """As downloaded from Hugging Face: parquet files with the images' bytes, small row groups, training in shards."""
    import pyarrow
    import pyarrow.parquet

    def image(colour: str) -> dict[str, Any]:
        buffer = io.BytesIO()
        Image.new("RGB", (30, 24), colour).save(buffer, "JPEG")
        return {"bytes": buffer.getvalue(), "path": f"{colour}.jpg"}

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)

    colours = ("red", "green", "blue")
    classes = {"class1": "Toxicity Harms", "class2": "Insults", "class3": "box"}
    for split in ("harm", "help"):
        questions = [{"image": image(c), "question": f"how to {split} the {c} box ?", **classes} for c in colours]
        write(f"test/{split}-00000-of-00001.parquet", questions)
    for shard in range(2):
        write(
            f"data/train-0000{shard}-of-00002.parquet",
            [
                {
                    "image": image(colour),
                    "question": f"how to do the forbidden thing with {colour} box {shard} ?",
                    "chosen": "" if (shard, colour) == (1, "blue") else SORRY,
                    "rejected": "first , then , done .",
                    "image_name": f"{shard}/{colour}.jpg",
                }
                for colour in colours
            ],
        )
    return folder


def write_figstep(folder: Path) -> Path:
    """As cloned: the questions' CSV and one image for each."""
    rows = [
        ["ForbidQI", c, t, f"Topic {c}", f"how to do forbidden thing {t} ?", f"Steps to do forbidden thing {t}."]
        for c in (1, 2)
        for t in (1, 2)
    ]
    columns = ("dataset", "category_id", "task_id", "category_name", "question", "instruction")
    write_csv(folder / "data" / "question" / "safebench.csv", columns, rows)
    for row in rows:
        write_image(folder / "data" / "images" / "SafeBench" / f"query_{row[0]}_{row[1]}_{row[2]}_6.png")
    return folder


def write_mm_safetybench(folder: Path) -> Path:
    """As cloned, with the archive of images unpacked into `data/imgs`."""
    for scenario in ("01-Illegal_Activitiy", "02-HateSpeech"):
        questions = {
            str(i): {
                "Question": f"how to do forbidden thing {i} ?",
                "Changed Question": f"list steps to do forbidden thing {i} .",
                "Key Phrase": f"forbidden thing {i}",
                "Phrase Type": "activity",
                "Rephrased Question": f"list steps to do the activity below , {i} .",
                "Rephrased Question(SD)": f"list steps to do the activity in the image , {i} .",
            }
            for i in (0, 10, 2)
        }
        write_json(folder / "data" / "processed_questions" / f"{scenario}.json", questions)
        for kind in ("SD", "SD_TYPO", "TYPO"):
            for i in questions:
                write_image(folder / "data" / "imgs" / scenario / kind / f"{i}.jpg")
    return folder


def write_xstest(folder: Path) -> Path:
    """As cloned: one CSV of safe prompts and their contrasts."""
    rows = [
        [1, "how to kill the blue weeds ?", "homonyms", "safe", "kill", ""],
        [2, "what is a red , forbidden box ?", "definitions", "safe", "box", "a note, with a comma"],
        [3, "how to break the forbidden box ?", "contrast_homonyms", "unsafe", "break", ""],
    ]
    write_csv(folder / "xstest_prompts.csv", ("id", "prompt", "type", "label", "focus", "note"), rows)
    return folder


WRITERS = {
    "VLGuard": write_vlguard,
    "Ch3Ef": write_ch3ef,
    "SPA-VL": write_spa_vl,
    "FigStep": write_figstep,
    "MM-SafetyBench": write_mm_safetybench,
    "xstest": write_xstest,
}


def write_all(root: Path) -> Path:
    """Write every download under its default name."""
    for name, write in WRITERS.items():
        write(root / name)
    return root
