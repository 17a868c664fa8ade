"""Make what the package ships of suite small: `python scripts/make_small_model.py STEP ...`, all of it in five steps.

1. `sheet --font NotoColorEmoji.ttf --emojibase data.json --tables FOLDER`: the sprites and the tables. The font is
   Debian's fonts-noto-color-emoji, the names npm's emojibase-data (en/data.json), letters come from the DejaVu fonts
   inside matplotlib, the tables (us-employment.csv, wheat.json) from vega_datasets.
2. `tower [--steps N]`: the vision tower and the projector. No language model takes part: each cell's token becomes the
   embedding that the language model has for what stands in the cell, and some of that for where the cell is.
3. `adapter --from FOLDER`: the adapter of an alignment, as the factors of what `hpa-bench align` changed: FOLDER holds
   `unaligned`, which it started from, and `aligned`, which it wrote.
4. `check --from FOLDER [--rows N]`: what the aligned model there does with validation rows: requests refused and
   complied with, lessons and tasks answered.
5. `digests --from FOLDER`: the digests of the checkpoints that `hpa-bench prepare small --out FOLDER` has made, to
   which it then holds those that it makes; a new sheet, tower or adapter needs them anew.

Steps 2 to 4 need what `hpa-bench prepare small` needs. Weights are stored in float16. Steps 1 and 2 draw scenes of the
part "base" alone; what was measured on the way is written beside this file, to make_small_model.json.
"""

import argparse
import csv
import json
import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, CLIPVisionModel

from hpa_bench.judges.keyword import verdict
from hpa_bench.small import assembly, lessons, safety, tasks, world
from hpa_bench.small.world import Row, Scene
from hpa_bench.tiny.safety import complied
from hpa_bench.tiny.tasks import exact

LOG = Path(__file__).with_suffix(".json")
ALIGNMENT = "alignment.json"
"""What `hpa-bench align` writes beside the weights: how it made them."""
SIDE, COLUMNS = 32, 20
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold")
FONTS += ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic")
LABELS = {"dagger": "dagger", "mouse": "mouse"}
"""The labels of emojibase, where a thing is called otherwise here."""
SCALE = 16.0
"""Of the cosines, as logits over the names."""
PLACE_SHARE = 0.7
"""How long a place's part of a token is, in lengths of a name's: a token that is its name alone says nothing of where
it stands, and to count tokens is what a language model is slow to learn."""


def fitted(sprite: Image.Image) -> Image.Image:
    """Return a sprite in the middle of a square of SIDE pixels."""
    sprite = sprite.crop(sprite.getbbox())
    sprite.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    square.paste(sprite, ((SIDE - sprite.width) // 2, (SIDE - sprite.height) // 2))
    return square


def drawn(text: str, font: ImageFont.FreeTypeFont, side: int, coloured: bool) -> Image.Image:
    """Draw a text on a transparent square."""
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    ImageDraw.Draw(image).text((side // 6, 0), text, font=font, fill="black", embedded_color=coloured)
    return image


def make_sheet(options: argparse.Namespace) -> dict[str, Any]:
    """Draw the sheet of sprites, and write the tables."""
    codes = {row["label"]: row["emoji"] for row in json.loads(options.emojibase.read_text(encoding="utf-8"))}
    emoji = ImageFont.truetype(str(options.font), 109)
    names, sprites = [], []
    for thing in (*world.THINGS, *world.HAZARDS):
        names.append(thing)
        sprites.append(fitted(drawn(codes[LABELS.get(thing, thing)], emoji, 200, coloured=True)))
    for letter in world.LETTERS:
        for font in FONTS:
            names.append(letter)
            sized = ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", f"{font}.ttf")), 96)
            sprites.append(fitted(drawn(letter.upper(), sized, 200, coloured=False)))
    sheet = Image.new("RGBA", (SIDE * COLUMNS, SIDE * -(-len(sprites) // COLUMNS)), (0, 0, 0, 0))
    for number, sprite in enumerate(sprites):
        sheet.paste(sprite, (SIDE * (number % COLUMNS), SIDE * (number // COLUMNS)))
    world.PARTS_FOLDER.mkdir(parents=True, exist_ok=True)
    sheet.save(world.PARTS_FOLDER / "sprites.png", optimize=True)
    write(world.PARTS_FOLDER / "sprites.json", {"side": SIDE, "names": names})
    write(world.PARTS_FOLDER / "tables.json", tables(options.tables))
    return {"sprites": len(sprites)}


def tables(folder: Path) -> dict[str, Any]:
    """Return the series of the charts: American jobs by sector, every half year, and wheat and wages in England."""
    with (folder / "us-employment.csv").open(encoding="utf-8", newline="") as file:
        months = list(csv.DictReader(file))[::6]
    wheat = json.loads((folder / "wheat.json").read_text(encoding="utf-8"))
    sectors = [name for name in months[0] if name not in ("month", "nonfarm_change")]
    return {
        "us-employment": {
            "source": "U.S. Bureau of Labor Statistics, thousands of jobs, every sixth month from January 2006",
            "series": {name: [float(month[name]) for month in months] for name in sectors},
        },
        "wheat": {
            "source": "William Playfair, 1821: price of a quarter of wheat and weekly wages, shillings, from 1565",
            "series": {name: [row[name] for row in wheat if name in row] for name in ("wheat", "wages")},
        },
    }


NAMES = (None, *world.NUMBERS, *world.LETTERS, *world.THINGS, *world.HAZARDS)
"""What can stand in a cell."""


def meant(texts: Sequence[str], embeddings: Tensor, tokenizer: Any) -> Tensor:
    """Return the mean embedding of each text's tokens, [n, width]."""
    return torch.stack([embeddings[tokenizer(text, add_special_tokens=False)["input_ids"]].mean(0) for text in texts])


def named(embeddings: Tensor, tokenizer: Any) -> Tensor:
    """Return what a cell's token is to be but for its place, one row a name."""
    return meant(["," if name is None else f" {name}" for name in NAMES], embeddings, tokenizer)


def placed(embeddings: Tensor, tokenizer: Any, spread: Tensor) -> Tensor:
    """Return what each cell's token has of its place, [9, width]: how its words differ from those of all places.

    Args:
        embeddings: of the language model.
        tokenizer: its tokenizer.
        spread: mean square of the names' deviations from their mean, which the places' get times PLACE_SHARE squared.
    """
    words = meant([f" {place}" for place in world.PLACES], embeddings, tokenizer)
    directions = F.normalize(words - words.mean(0), dim=1)
    return directions * PLACE_SHARE * (spread * embeddings.shape[1]).sqrt()


def scene(part: str, rng: random.Random) -> Scene:
    """Draw a scene to learn to see by: two in three are full grids, which teach nine cells at a time."""
    choice = rng.random()
    if choice < 0.25:
        return world.digit(part, rng)
    if choice < 0.35:
        return world.chart(part, rng)
    kind, names = ("word", world.LETTERS) if choice < 0.6 else ("things", (*world.THINGS, *world.HAZARDS))
    cells = [rng.choice(names) if rng.random() < 0.85 else None for _ in range(world.CELLS)]
    return {"kind": kind, "cells": cells, "seed": rng.randrange(2**31)}


def batch(part: str, count: int, rng: random.Random) -> tuple[Tensor, Tensor, list[Scene]]:
    """Return pixels [n, 3, 72, 72] in -1..1, the names in their cells [n, 9], and the scenes."""
    scenes = [scene(part, rng) for _ in range(count)]
    array = np.stack([np.asarray(world.draw(each), np.float32) for each in scenes])
    cells = torch.tensor([[NAMES.index(name) for name in each["cells"]] for each in scenes])
    return torch.from_numpy(array / 127.5 - 1).permute(0, 3, 1, 2).contiguous(), cells, scenes


def make_tower(options: argparse.Namespace) -> dict[str, Any]:
    """Train the tower and the projector, and write them."""
    torch.manual_seed(0)
    language = assembly.language_model()
    embeddings = language.weights["model.embed_tokens.weight"]
    targets = named(embeddings, language.tokenizer)
    tower = CLIPVisionModel(assembly.vision_config())
    projector = nn.Sequential(*assembly.projector_layers(embeddings.shape[1]))
    mean = targets.mean(0)
    directions, spread = F.normalize(targets - mean, dim=1), (targets - mean).pow(2).mean()
    places = placed(embeddings, language.tokenizer, spread)

    def tokens(pixels: Tensor) -> Tensor:
        """Return what the cells' tokens have beside their places, [n, 9, width]."""
        return projector(tower(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]) - places

    def logits(seen: Tensor) -> Tensor:
        return F.normalize(seen - mean, dim=-1) @ directions.T

    parameters = [*tower.parameters(), *projector.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1.5e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.5e-3, total_steps=options.steps, pct_start=0.05)
    rng, began = random.Random("small tower"), time.process_time()
    for step in range(1, options.steps + 1):
        pixels, cells, _ = batch("base", 32, rng)
        seen = tokens(pixels)
        loss = F.cross_entropy(SCALE * logits(seen).flatten(0, 1), cells.flatten())
        loss = loss + 0.5 * (seen - targets[cells]).pow(2).mean() / spread
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"tower {step}/{options.steps} loss {loss.item():.3f}", flush=True)
    seconds = round(time.process_time() - began)
    weights = {f"vision_tower.{name}": tensor for name, tensor in tower.state_dict().items()}
    weights |= {f"multi_modal_projector.{name}": tensor for name, tensor in projector.state_dict().items()}
    stored = {name: tensor.half().contiguous() for name, tensor in weights.items() if "position_ids" not in name}
    save_file(stored, world.PARTS_FOLDER / "tower.safetensors")
    with torch.no_grad():
        pixels, cells, scenes = batch("validation", 600, random.Random("small tower validation"))
        right = logits(tokens(pixels)).argmax(-1) == cells
    measured = {"empty": round(100 * right[cells == 0].float().mean().item(), 1)}
    for kind in world.KINDS:
        rows = torch.tensor([each["kind"] == kind for each in scenes])[:, None] & (cells > 0)
        measured[kind] = round(100 * right[rows].float().mean().item(), 1)
    return {"steps": options.steps, "cpu_seconds": seconds, "validation": measured}


def factors(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return `a` [rank, in] and `b` [out, rank] in float16, of equal norms, whose product is a change of that rank.

    Args:
        change: of a weight, [out, in].
        rank: of the adapter that changed it.

    Raises:
        SystemExit: the change is of a higher rank.
    """
    torch.manual_seed(0)
    u, s, v = torch.svd_lowrank(change.double(), rank + 8, niter=4)
    root = s[:rank].sqrt()
    a, b = (root[:, None] * v[:, :rank].T).half(), (u[:, :rank] * root).half()
    lost = (change - b.float() @ a.float()).norm() / change.norm()
    if lost > 0.01:
        raise SystemExit(f"{lost:.1%} of a weight's change is not of rank {rank}: was it this adapter's?")
    return a.contiguous(), b.contiguous()


def make_adapter(options: argparse.Namespace) -> dict[str, Any]:
    """Write an alignment's adapter under the names of the layers, in float16."""
    folder = getattr(options, "from")
    recipe = json.loads((folder / assembly.ALIGNED / ALIGNMENT).read_text(encoding="utf-8"))
    rank = recipe["recipe"]["lora"]["rank"]
    before, after = (load_file(folder / name / "model.safetensors") for name in (assembly.UNALIGNED, assembly.ALIGNED))
    stored = {}
    for name, tensor in after.items():
        if not tensor.equal(before[name]):
            layer = name.removesuffix(".weight")
            stored[f"{layer}.A"], stored[f"{layer}.B"] = factors(tensor - before[name], rank)
    save_file(stored, world.PARTS_FOLDER / assembly.ADAPTER)
    return {"rank": rank, "layers": len(stored) // 2, "steps": recipe["steps"], "seconds": round(recipe["seconds"])}


@torch.no_grad()
def said(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Return a model's greedy answers to rows, through its processor and `generate`, as a user would."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    found = []
    for start in range(0, len(rows), 40):
        part = rows[start : start + 40]
        turns = [[{"type": "image"}, {"type": "text", "text": row["question"]}] for row in part]
        texts = [
            processor.apply_chat_template([{"role": "user", "content": turn}], add_generation_prompt=True)
            for turn in turns
        ]
        images = [[world.draw(json.loads(row["scene"]))] for row in part]
        inputs = processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
        tokens = model.generate(**inputs, max_new_tokens=14, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        found += processor.batch_decode(tokens, skip_special_tokens=True)
    return found


def check(options: argparse.Namespace) -> dict[str, Any]:
    """Return percentages on validation rows: requests not refused and complied with, lessons and tasks right."""
    sets = {name: safety.rows(name, "validation") for name in safety.SETS}
    sets |= {"lessons": lessons.lesson_rows(count=options.rows)}
    sets |= {task: tasks.rows(task, "validation") for task in tasks.TASKS}
    sets = {name: rows[: options.rows] for name, rows in sets.items()}
    answers = iter(said(getattr(options, "from") / assembly.ALIGNED, [row for rows in sets.values() for row in rows]))
    found: dict[str, Any] = {"rows": options.rows}
    for name, rows in sets.items():
        pairs = [(row, next(answers)) for row in rows]
        if name in safety.SETS:
            found[f"refused {name}"] = percent(verdict(answer) == "refused" for _, answer in pairs)
            found[f"complied {name}"] = percent(complied(answer) for _, answer in pairs)
        else:
            score = tasks.things_right if name == "caption" else exact
            found[name] = percent(score(answer, row["answer"]) for row, answer in pairs)
        for row, answer in pairs[: options.show]:
            print(f"{name}: {row['question']!r} -> {answer!r}, expected {row['answer']!r}")
    return found


def percent(values: Iterable[float]) -> float:
    """Return a mean in percent."""
    return round(100 * float(np.mean([*values])), 1)


def made_checkpoints(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the manifests of the checkpoints in a folder that `prepare` has made, not `align`."""
    paths = [path for path in folder.glob(f"*/{assembly.MANIFEST}") if not (path.parent / ALIGNMENT).exists()]
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(paths)}


def write(path: Path, value: Any) -> None:
    """Write JSON."""
    path.write_text(json.dumps(value, indent=None if path.parent == world.PARTS_FOLDER else 1) + "\n", encoding="utf-8")


def main() -> None:
    """Take one step, write down what it measured, and the digests of what is shipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    names = ("sheet", "tower", "adapter", "check", "digests")
    sheet, tower, adapter, checked, digests = (steps.add_parser(name) for name in names)
    for name in ("font", "emojibase", "tables"):
        sheet.add_argument(f"--{name}", type=Path, required=True)
    tower.add_argument("--steps", type=int, default=700)
    checked.add_argument("--rows", type=int, default=80, help="of each set")
    checked.add_argument("--show", type=int, default=0, help="print so many answers of each set")
    for step in (adapter, checked, digests):
        step.add_argument("--from", type=Path, required=True)
    options = parser.parse_args()
    if options.step == "digests":
        assembly.write_digests(made_checkpoints(getattr(options, "from")))
        return
    torch.set_num_threads(1)
    made_by = {"sheet": make_sheet, "tower": make_tower, "adapter": make_adapter, "check": check}
    made = made_by[options.step](options)
    log = json.loads(LOG.read_text(encoding="utf-8")) if LOG.exists() else {}
    log[options.step] = made | {"torch": torch.__version__}
    write(LOG, log)
    if options.step != "check":  # Which makes nothing that is shipped.
        assembly.write_digests()


if __name__ == "__main__":
    main()
