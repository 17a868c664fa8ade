"""Peak memory and time of `hpa-bench adapt` on a random LLaVA-1.5-7B, all 32 blocks, on a CPU or a GPU.

python -m benchmarks.adapt_memory --folder /data/tmp [--method hpa] [--blocks 32] [--safety 1] [--task 1] [--device cpu]

It writes two checkpoints of 14 GB there and the edited one, removes all three, and starts nothing with less than 45 GB
of free disk. HPA at this size is 66 TFLOP of float64 for the inverses, whatever the samples: an hour of two cores.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from benchmarks.shapes import SHAPES
from hpa_bench.files import write_json, write_jsonl

FREE = 45 * 10**9
"""Bytes of free disk that are asked for with all blocks of 7B."""
REFUSAL = "I'm sorry, but I cannot help with that."


def write_samples(folder: Path, name: str, count: int, image: int) -> None:
    """Write a LLaVA-format file of samples with one image each, and answers that refuse all."""
    folder.mkdir()
    rows = []
    for index in range(count):
        file = f"{index}.png"
        Image.effect_noise((image, image), 80 + index).convert("RGB").save(folder / file)
        turns = [{"from": "human", "value": f"<image>\nword1{index} word27 word305"}, {"from": "gpt", "value": REFUSAL}]
        rows.append({"id": f"{name}{index}", "image": file, "conversations": turns})
    write_json(folder / "train.json", rows)
    write_jsonl(folder / "answers.jsonl", [{"id": row["id"], "response": REFUSAL} for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--method", default="hpa")
    parser.add_argument("--shape", default="7b", choices=SHAPES)
    parser.add_argument("--blocks", type=int, default=None)
    parser.add_argument("--safety", type=int, default=1, help="samples, of some 580 tokens each")
    parser.add_argument("--task", type=int, default=1, help="samples")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    blocks = args.blocks or SHAPES[args.shape]["layers"]
    needed = FREE if args.shape == "7b" and blocks == SHAPES["7b"]["layers"] else 0
    free = shutil.disk_usage(args.folder).free
    if free < needed:
        parser.exit(2, f"{args.folder.resolve()} has {free / 1e9:.0f} GB free, and {needed / 1e9:.0f} are asked for.\n")

    with TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        began = time.perf_counter()
        # In a process of its own: what it held would be counted as the edit's.
        code = f"from pathlib import Path; from benchmarks.shapes import write_tuned_pair as w; print(w({args.shape!r},"
        code += f" Path({name!r}), {blocks}))"
        made = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
        for part, count in (("safety", args.safety), ("task", args.task)):
            write_samples(folder / part, part, count, SHAPES[args.shape]["image"])
        print(f"{int(made.stdout) / 1e9:.2f} B parameters written, {time.perf_counter() - began:.0f} s", flush=True)
        command = [sys.executable, "-m", "hpa_bench", "adapt", "--method", args.method, "--device", args.device]
        command += ["--before", f"{name}/before", "--after", f"{name}/after", "--out", f"{name}/out"]
        command += ["--safety", f"{name}/safety", "--answers", f"{name}/safety/answers.jsonl", "--task", f"{name}/task"]
        subprocess.run(command, check=True)
        record = json.loads((folder / "out" / "adapt.json").read_text())
        size = sum(file.stat().st_size for file in (folder / "out").glob("*.safetensors"))
        found = {"method": args.method, "device": args.device, "blocks": blocks, "GB": round(size / 1e9, 2)}
        found |= {"seconds": round(record["seconds"]), "peak GB": round(record["peak_memory_bytes"] / 1e9, 2)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
