"""Seconds of `hpa-bench validate` per 100,000 rows of a download, its images' headers read (at most 12 s on one core).

Run: python benchmarks/validate.py [--rows 100000]

Rows have images of their own (links to a few hundred JPEGs of 336 x 336) and questions that repeat, as in UCIT.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from PIL import Image

from hpa_bench.data.tasks import TaskLoader
from hpa_bench.data.validation import inspect_sets, leaks_of
from hpa_bench.spec import RunOptions, make_spec

PHOTOGRAPHS = 200


def write_download(root: Path, rows: int) -> None:
    """Write MLLM-DCL's AD with so many training rows, and a hundredth as many test rows."""
    folder = root / "Domain_data" / "AD"
    (folder / "images").mkdir(parents=True)
    for number in range(PHOTOGRAPHS):
        Image.effect_noise((336, 336), 10 + number % 90).convert("RGB").save(folder / f"{number}.jpg")
    for number in range(rows + rows // 100):
        os.link(folder / f"{number % PHOTOGRAPHS}.jpg", folder / "images" / f"{number}.jpg")
    asked = [f"What is the state of the traffic light in view {number} ?" for number in range(50)]
    train = [
        {
            "id": str(number),
            "image": f"images/{number}.jpg",
            "conversations": [
                {"from": "human", "value": f"<image>\n{asked[number % 50]}"},
                {"from": "gpt", "value": "Yes"},
            ],
        }
        for number in range(rows)
    ]
    test = [
        {"question_id": number, "image": f"images/{rows + number}.jpg", "text": asked[number % 50], "answer": "Yes"}
        for number in range(rows // 100)
    ]
    (folder / "train.json").write_text(json.dumps(train))
    (folder / "test.json").write_text(json.dumps(test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()

    nothing_else = ["tasks=[dcl_ad]", "safety_sets=[]", "benign_sets=[]", "safety_data=null"]
    nothing_else += ["calibration.safety_set=null"]
    with tempfile.TemporaryDirectory() as folder:
        write_download(Path(folder), options.rows)
        suite = make_spec(RunOptions("mllm-dcl", "seqft", settings=nothing_else, data_root=folder), model=False).suite
        split = suite.evaluation.split
        loader = TaskLoader(suite.task_folders(), split, suite.task_metadata())
        started, worked = time.perf_counter(), time.process_time()
        (report,) = inspect_sets(suite.sets(), loader, split)
        leaks = leaks_of([report])
        spent, work = time.perf_counter() - started, time.process_time() - worked
    assert report.good
    rows = sum(len(samples) for samples in report.samples.values())
    per = 100_000 / rows
    print(
        f"{rows} rows: {spent * per:.1f} s per 100,000, of which {work * per:.1f} s on the processor;"
        f" {sum(len(leak.pairs) for leak in leaks)} of {rows - options.rows} test rows leak"
    )


if __name__ == "__main__":
    main()
