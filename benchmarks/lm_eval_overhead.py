"""What lm-eval adds to generation: our path through lm-eval against the same engine called directly.

Two stages over 2,000 requests, half of them asked for timing the part that does not depend on their number; a run
evaluates several stages, so the first call, which builds the requests, and the later ones stand apart.

    python benchmarks/lm_eval_overhead.py [--requests 2000]
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from hpa_bench.data.tasks import load_tasks
from hpa_bench.engines.base import Engine
from hpa_bench.runner.evaluation import Evaluator

UTILS = """
import datasets
from PIL import Image

def load(count, **_):
    row = {"question": "<image>\\nwhat is this ?", "answer": "red"}
    rows = [{"id": str(i), "shade": i % 256, **row} for i in range(count)]
    return {"test": datasets.Dataset.from_list(rows)}

def image(doc):
    return [Image.new("RGB", (48, 48), (doc["shade"], 0, 0))]

def score(doc, results):
    return {"right": float(results[0] == doc["answer"])}
"""
YAML = """
task: {name}
custom_dataset: !function utils.load
dataset_kwargs: {{count: {count}}}
test_split: test
output_type: generate_until
doc_to_image: !function utils.image
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
process_results: !function utils.score
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 8}}
metric_list: [{{metric: right, aggregation: mean, higher_is_better: true}}]
metadata: {{}}
"""


class Timed(Engine):
    """Answers at once, so that only lm-eval's own time is left; the engine's time is taken off exactly."""

    def __init__(self, processor):
        self.processor = processor
        self.seconds = 0.0

    @classmethod
    def open(cls, path, **options):
        raise NotImplementedError("built by hand")

    def generate(self, requests, on_progress=None):
        started = time.perf_counter()
        responses = ["red" for _ in requests]
        self.seconds += time.perf_counter() - started
        return responses


class Template:
    """A chat template with no model behind it."""

    chat_template = "plain"

    class tokenizer:  # noqa: N801
        name_or_path = "plain"

    def apply_chat_template(self, turns, **_):
        return " ".join(part.get("text", "<image>") for turn in turns for part in turn["content"]) + " answer :"


def overhead(count: int, sets: int) -> tuple[float, float]:
    """Return the seconds that lm-eval adds to the first and to a later call, over `count` requests in `sets` tasks."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "utils.py").write_text(UTILS)
        names = [f"set{index}" for index in range(sets)]
        for name in names:
            Path(folder, f"{name}.yaml").write_text(YAML.format(name=name, count=count // sets))
        evaluator = Evaluator(load_tasks(names, [Path(folder)]))
    added = []
    for _ in range(2):
        engine = Timed(Template())
        started = time.perf_counter()
        rows = evaluator.evaluate(engine)
        added.append(time.perf_counter() - started - engine.seconds)
        assert sum(map(len, rows.values())) == count
    return added[0], added[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--sets", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    Image.init()
    overhead(options.sets, options.sets)  # imports
    small = overhead(options.requests // 4, options.sets)
    full = overhead(options.requests, options.sets)
    allowed = 1.5 + 1e-3 * options.requests
    for which, few, many in zip(("first call", "later calls"), small, full, strict=True):
        each = (many - few) / (options.requests - options.requests // 4)
        print(
            f"{which}: {many / allowed:.2f} of the allowed 1.5 s + 1 ms a request"
            f" ({many:.2f} s for {options.requests} requests: {many - each * options.requests:.2f} s a call"
            f" + {1e3 * each:.2f} ms a request)"
        )


if __name__ == "__main__":
    main()
