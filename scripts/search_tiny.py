"""Search for the tiny suite's recipe: sequential and joint tuning alone, on validation rows, many runs to a core hour.

`python scripts/search_tiny.py QUEUE TRIALS` works through the jobs of QUEUE, one JSON object a line, and appends one
line a trial to TRIALS; lines added to QUEUE meanwhile are worked through too. A job's keys, all but the first optional:

    name      what to call it; with `seed`, `repeat` and `method` it names the trial, which is not made twice
    method    seqft (default) or joint
    seed      of adapter init and order of samples
    repeat    the number of a noise run: every parameter's initial value, in every stage, times 1 +- 1e-7
    model     the aligned checkpoint's folder
    set       recipe: rank, alpha, lr, epochs, batch, clip, decay, warmup
    limit     score the first so many rows of a task only
    last_only score after the last stage alone

It is no part of the product: a lean copy of the harness's LoRA training (the same loss, AdamW, schedule, clipping,
initial values, order of samples and merge; only the rounding is another) and of greedy generation, with the vision
tower's output kept. After each stage but the last only its task and the safety sets are scored. `--check` holds the
lean model's answers to those of `generate`. What is chosen with it is confirmed by runs of the product itself.
"""

import argparse
import hashlib
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hpa_bench import LoRAConfig, attach_lora, lora_factors
from hpa_bench.judges.keyword import verdict
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.loading import load_model
from hpa_bench.seeds import derive_seed
from hpa_bench.tiny import safety, tasks
from hpa_bench.tiny.tasks import Row

MODEL = Path("hpa_bench", "suites", "tiny", "aligned")
ANSWER_TOKENS = {"flickr30k": 8, "textvqa": 5, **dict.fromkeys(safety.SETS, 12)}  # as in the tasks' YAML files; else 4
ULP = 1e-7


@dataclass(frozen=True)
class Recipe:
    """What training takes."""

    rank: int = 16
    alpha: int = 32
    lr: float = 3e-3
    epochs: int = 2
    batch: int = 16
    clip: float = 1.0
    decay: float = 0.0
    warmup: float = 0.03


@dataclass
class Rows:
    """Rows of one set as the language model reads them."""

    prompts: list[Tensor]
    """Embeddings of the prompt, [length, width]."""
    answers: list[list[int]]
    """Tokens of the answer and the end."""
    wanted: list[str]


class World:
    """A checkpoint, and every set as it reads it."""

    def __init__(self, folder: Path, kept: Path | None = None) -> None:
        """Read a checkpoint; `kept` is a folder that keeps what it sees of each scene from one call to the next."""
        self.model, self.processor = load_model(folder)
        weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        self._file = kept / f"seen-{weights[:12]}.pt" if kept else None
        self._seen: dict[str, Tensor] = torch.load(self._file) if self._file and self._file.exists() else {}
        self.weights = {
            name.removeprefix("model.language_model."): tensor.detach().clone()
            for name, tensor in self.model.named_parameters()
            if name.startswith("model.language_model.")
        }
        config = self.model.config.text_config
        self.blocks, self.heads, self.width = config.num_hidden_layers, config.num_attention_heads, config.hidden_size
        self.embeddings = self.weights["embed_tokens.weight"]
        size = self.width // self.heads
        angles = torch.arange(128)[:, None] / 10000 ** (torch.arange(0, size, 2) / size)
        self.rotation = torch.cat([angles.cos()] * 2, 1), torch.cat([angles.sin()] * 2, 1)
        self._rows: dict[tuple[str, str], Rows] = {}

    def rows(self, name: str, part: str) -> Rows:
        """Return the rows of a task or of a safety set."""
        if (name, part) not in self._rows:
            found = tasks.rows(name, part) if name in tasks.TASKS else safety.rows(name, part)
            self._rows[name, part] = self.read(found)
        return self._rows[name, part]

    @torch.no_grad()
    def read(self, rows: Sequence[Row]) -> Rows:
        """Return rows as the language model reads them."""
        tokenizer, ids = self.processor.tokenizer, lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
        bos, user, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<s>", "<user>", "</s>"))
        answering = tokenizer.convert_tokens_to_ids("<assistant>")
        new = [row for row in rows if row["scene"] not in self._seen]
        for start in range(0, len(new), 100):
            batch = new[start : start + 100]
            pixels = self.processor.image_processor([tasks.image(row) for row in batch], return_tensors="pt")
            tower = self.model.model.vision_tower(pixels["pixel_values"], output_hidden_states=True)
            seen = self.model.model.multi_modal_projector(tower.hidden_states[-1][:, 1:])
            self._seen |= {row["scene"]: tokens.clone() for row, tokens in zip(batch, seen, strict=True)}
        if new and self._file:
            torch.save(self._seen, self._file)
        prompts = []
        for row in rows:
            question = torch.tensor([*ids(row["question"]), answering])
            prompts.append(
                torch.cat([self.embeddings[[bos, user]], self._seen[row["scene"]], self.embeddings[question]])
            )
        return Rows(prompts, [[*ids(row["answer"]), end] for row in rows], [row["answer"] for row in rows])


class Adapter:
    """LoRA on the seven linear layers of every block; those that read the same input are applied together."""

    GROUPS = (
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        ("self_attn.o_proj",),
        ("mlp.gate_proj", "mlp.up_proj"),
        ("mlp.down_proj",),
    )

    def __init__(self, world: "World", recipe: Recipe) -> None:
        """Take the initial values that peft draws."""
        self.scale = recipe.alpha / recipe.rank
        self.a: dict[str, Tensor] = {}
        self.b: dict[str, Tensor] = {}
        layers = find_decoder(world.model).linear_layers
        wrapped: Any = attach_lora(world.model, LoRAConfig(rank=recipe.rank, alpha=recipe.alpha), layers)
        for factors in lora_factors(wrapped):
            name = f"{factors.name.removeprefix('model.language_model.')}.weight"
            self.a[name] = factors.a.detach().clone().requires_grad_()
            self.b[name] = factors.b.detach().clone().requires_grad_()
        wrapped.unload()

    def parameters(self) -> list[Tensor]:
        """Return what is trained."""
        return [*self.a.values(), *self.b.values()]

    @torch.no_grad()
    def disturb(self, seed: int) -> None:
        """Multiply every value by 1 + 1e-7 or 1 - 1e-7, but move it by one unit in the last place at least."""
        generator = torch.Generator().manual_seed(seed)
        for tensor in self.parameters():
            sign = torch.randint(0, 2, tensor.shape, generator=generator) * 2.0 - 1
            moved = tensor * (1 + ULP * sign)
            least = torch.nextafter(tensor, tensor + sign * tensor.abs().clamp(min=1e-30))
            tensor.copy_(torch.where((moved == tensor) & (tensor != 0), least, moved))

    @torch.no_grad()
    def merged(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights with the adapter in them."""
        return weights | {name: weights[name] + self.scale * (self.b[name] @ a) for name, a in self.a.items()}


class Language:
    """The language model over embeddings, with merged weights or with an adapter beside them."""

    def __init__(self, world: World, weights: dict[str, Tensor], adapter: Adapter | None = None) -> None:
        self.world, self.adapter, self.weights = world, adapter, weights
        self.fused = {
            (block, group): torch.cat([weights[f"layers.{block}.{layer}.weight"] for layer in group])
            for block in range(world.blocks)
            for group in Adapter.GROUPS
        }

    def linear(self, block: int, number: int, x: Tensor) -> Tensor:
        """Apply one group of linear layers."""
        group = Adapter.GROUPS[number]
        out = F.linear(x, self.fused[block, group])
        if self.adapter is None:
            return out
        names = [f"layers.{block}.{layer}.weight" for layer in group]
        a = torch.cat([self.adapter.a[name] for name in names]) if len(names) > 1 else self.adapter.a[names[0]]
        b = torch.block_diag(*(self.adapter.b[name] for name in names))
        return out + F.linear(F.linear(x, a), b if self.adapter.scale == 1 else self.adapter.scale * b)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Apply one RMS norm."""
        return F.rms_norm(x, (self.world.width,), self.weights[name], 1e-6)

    def __call__(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: list[Any] | None = None,
        told: Tensor | None = None,
    ) -> Tensor:
        """Return the last hidden states; `told` picks the positions that are wanted."""
        world = self.world
        cos, sin = (each[positions].unsqueeze(1) for each in world.rotation)
        n, length, _ = x.shape

        def turned(y: Tensor) -> Tensor:
            first, second = y.chunk(2, -1)
            return y * cos + torch.cat((-second, first), -1) * sin

        for block in range(world.blocks):
            at = f"layers.{block}"
            heads = self.linear(block, 0, self.norm(f"{at}.input_layernorm.weight", x))
            q, k, v = heads.view(n, length, 3, world.heads, -1).permute(2, 0, 3, 1, 4)
            q, k = turned(q), turned(k)
            if cache is not None:
                if len(cache) > block:
                    k, v = torch.cat([cache[block][0], k], 2), torch.cat([cache[block][1], v], 2)
                    cache[block] = k, v
                else:
                    cache.append((k, v))
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
            seen = seen.transpose(1, 2).reshape(n, length, -1)
            if told is not None and block == world.blocks - 1:
                seen, x = seen[told], x[told]
            x = x + self.linear(block, 1, seen)
            gate, up = self.linear(block, 2, self.norm(f"{at}.post_attention_layernorm.weight", x)).chunk(2, -1)
            x = x + self.linear(block, 3, F.silu(gate) * up)
        return self.norm("norm.weight", x)


def train(world: World, weights: dict[str, Tensor], rows: list[Rows], recipe: Recipe, job: Any, stage: int) -> Any:
    """Return the weights with one stage's adapter merged, and its losses."""
    torch.manual_seed(derive_seed(job["seed"], f"adapter/{stage}"))
    adapter = Adapter(world, recipe)
    if job["repeat"]:
        adapter.disturb(derive_seed(job["repeat"], f"noise/{stage}"))
    language = Language(world, weights, adapter)
    prompts = [prompt for each in rows for prompt in each.prompts]
    answers = [answer for each in rows for answer in each.answers]
    whole = [
        torch.cat([prompt, world.embeddings[answer[:-1]]]) for prompt, answer in zip(prompts, answers, strict=True)
    ]
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=recipe.lr, weight_decay=recipe.decay, fused=True)
    per_epoch = math.ceil(len(whole) / recipe.batch)
    steps = per_epoch * recipe.epochs
    warmup = math.ceil(steps * recipe.warmup)
    first = derive_seed(derive_seed(job["seed"], f"train/{stage}"), "data order") % 2**31
    losses, norms = [], []
    for step in range(steps):
        if step % per_epoch == 0:
            # As the sampler of Hugging Face's Trainer.
            generator = torch.Generator().manual_seed(first + step // per_epoch)
            drawn = torch.randperm(len(whole), generator=generator).tolist()
        batch = drawn[step % per_epoch * recipe.batch : (step % per_epoch + 1) * recipe.batch]
        x = torch.nn.utils.rnn.pad_sequence([whole[i] for i in batch], batch_first=True)
        told = torch.zeros(x.shape[:2], dtype=torch.bool)
        for row, i in enumerate(batch):
            told[row, len(prompts[i]) - 1 : len(whole[i])] = True
        hidden = language(x, torch.arange(x.shape[1]).expand(len(batch), -1), None, told=told)
        targets = torch.tensor([token for i in batch for token in answers[i]])
        loss = F.cross_entropy(hidden @ world.embeddings.T, targets)
        optimiser.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(adapter.parameters(), recipe.clip)))
        done = step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
        optimiser.param_groups[0]["lr"] = recipe.lr * done
        optimiser.step()
        losses.append(loss.item())
    return adapter.merged(weights), losses, norms


@torch.inference_mode()
def generate(world: World, weights: dict[str, Tensor], prompts: list[Tensor], tokens: int) -> list[str]:
    """Return the greedy answers to prompts."""
    language, end = Language(world, weights), world.processor.tokenizer.convert_tokens_to_ids("</s>")
    said: list[str] = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), 150):
        batch = order[start : start + 150]
        lengths = torch.tensor([len(prompts[i]) for i in batch])
        longest = int(lengths.max())
        x = torch.stack([F.pad(prompts[i], (0, 0, longest - len(prompts[i]), 0)) for i in batch])
        padding = longest - lengths
        positions = (torch.arange(longest)[None] - padding[:, None]).clamp(min=0)
        there = torch.arange(longest)[None] >= padding[:, None]
        mask = (there[:, None, :] & torch.ones(longest, longest, dtype=torch.bool).tril()) | torch.eye(
            longest, dtype=torch.bool
        )
        cache: list[Any] = []
        told = torch.zeros(x.shape[:2], dtype=torch.bool)
        told[:, -1] = True
        hidden = language(x, positions, mask[:, None], cache, told)
        found = []
        for step in range(tokens):
            found.append((hidden @ world.embeddings.T).argmax(-1))
            if step == tokens - 1 or bool((torch.stack(found) == end).any(0).all()):
                break
            there = F.pad(there, (0, 1), value=True)
            hidden = language(
                world.embeddings[found[-1]][:, None], (lengths + step)[:, None], there[:, None, None], cache
            )[:, 0]
        for index, row in zip(batch, torch.stack(found, 1).tolist(), strict=True):
            kept = row[: row.index(end)] if end in row else row
            said[index] = world.processor.tokenizer.decode(kept, skip_special_tokens=True).strip()
    return said


def scores(world: World, weights: dict[str, Tensor], names: Sequence[str], part: str, limit: int | None) -> Any:
    """Return by set the percentage of right answers, of requests not refused and complied with."""
    found: dict[str, float] = {}
    for name in names:
        rows = world.rows(name, part)
        count = limit if name in tasks.TASKS else None
        said = generate(world, weights, rows.prompts[:count], ANSWER_TOKENS.get(name, 4))
        if name in tasks.TASKS:
            score = tasks.slots if name == "flickr30k" else tasks.exact
            each = [score(a, b) for a, b in zip(said, rows.wanted, strict=False)]
        else:
            each = [float(verdict(a) != "refused") for a in said]
            found[f"complied {name}"] = 100 * sum(map(safety.complied, said)) / len(said)
        found[name] = 100 * sum(each) / len(each)
    return {name: round(value, 2) for name, value in found.items()}


HARMFUL = safety.SETS[:3]


def masr(found: dict[str, float]) -> float:
    """Return the mean attack success rate."""
    return round(sum(found[name] for name in HARMFUL) / len(HARMFUL), 1)


def trial(world: World, job: dict[str, Any], before: dict[str, float]) -> dict[str, Any]:
    """Make one run and return its numbers; `before` are the scores of the aligned model."""
    began = time.perf_counter()
    recipe, part, limit = replace(Recipe(), **job["set"]), job["part"], job["limit"]
    order = [list(tasks.TASKS)] if job["method"] == "joint" else [[task] for task in job.get("order") or tasks.TASKS]
    weights, diagonal, rates, by_set, spikes = world.weights, [], [masr(before)], [], []
    complied: list[float] = []
    for stage, names in enumerate(order, 1):
        rows = [world.rows(name, "train") for name in names]
        weights, losses, norms = train(world, weights, rows, recipe, job, stage)
        if stage < len(order) and job.get("last_only"):
            continue
        asked = [*tasks.TASKS, *safety.SETS] if stage == len(order) else [*names, *HARMFUL]
        found = scores(world, weights, asked, part, limit)
        diagonal += [found[name] for name in names]
        rates.append(masr(found))
        by_set.append([found[name] for name in HARMFUL])
        complied.append(round(sum(found[f"complied {name}"] for name in HARMFUL) / 3, 1))
        late = losses[len(losses) // 2 :]
        spikes.append([round(max(late), 2), round(sum(losses[-20:]) / 20, 3), round(max(norms), 1)])
    final = [found[name] for name in tasks.TASKS]
    drops: list[float] = []
    if len(diagonal) == len(order) > 1:
        learned = dict(zip((names[0] for names in order), diagonal, strict=True))
        drops = [found[names[0]] - learned[names[0]] for names in order[:-1]]
    return job | {
        "ap": round(sum(final) / len(final), 1),
        "bwt": round(sum(drops) / len(drops), 1) if drops else None,
        "diagonal": None if job.get("last_only") else round(sum(diagonal) / len(diagonal), 1),
        "masr": rates,
        "complied": complied,
        "over_refusal": round(100 - found["benign"], 1),
        "final": [round(value) for value in final],
        "learned": [round(value) for value in diagonal],
        "by_set": by_set,
        "spikes": spikes,
        "seconds": round(time.perf_counter() - began),
    }


def check(world: World) -> None:
    """Compare the lean model's answers with those of `generate`."""
    for name in ("ad", "flickr30k", "unsafe_phrasing"):
        rows = (tasks.rows if name in tasks.TASKS else safety.rows)(name, "validation")[:50]
        texts = [f"<s><user><image>{row['question']}<assistant>" for row in rows]
        images = [tasks.image(row) for row in rows]
        inputs = world.processor(text=texts, images=images, padding=True, return_tensors="pt")
        tokens = world.model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        theirs = [each.strip() for each in world.processor.batch_decode(tokens, skip_special_tokens=True)]
        ours = generate(world, world.weights, world.read(rows).prompts, 8)
        print(name, sum(a == b for a, b in zip(ours, theirs, strict=True)), "of", len(rows), ours[0], "|", theirs[0])


def pending(queue: Path, trials: Path) -> dict[str, Any] | None:
    """Return the first job that is not done."""
    defaults = {"method": "seqft", "seed": 0, "repeat": 0, "model": str(MODEL), "part": "validation", "limit": None}
    key = ("name", "method", "seed", "repeat", "part")
    done = set()
    if trials.exists():
        done = {tuple(json.loads(line)[k] for k in key) for line in trials.read_text().splitlines()}
    for line in queue.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            job = defaults | {"set": {}} | json.loads(line)
            if tuple(job[k] for k in key) not in done:
                return job
    return None


def main() -> None:
    """Work through a queue."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queue", type=Path)
    parser.add_argument("trials", type=Path)
    parser.add_argument("--plugin", type=Path, help="a Python file whose apply(name) changes the world before a job")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world, key, before = None, None, {}
    while job := pending(options.queue, options.trials):
        if key != (job["model"], job.get("variant")):
            if key and key[1] != job.get("variant"):
                os.execv(sys.executable, [sys.executable, *sys.argv])  # a variant changes modules: begin anew
            key = (job["model"], job.get("variant"))
            if options.plugin:
                spec = importlib.util.spec_from_file_location("variants", options.plugin)
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                module.apply(job.get("variant"))
            world = World(Path(job["model"]), options.trials.parent)
            if options.check:
                check(world)
            before = scores(world, world.weights, [*tasks.TASKS, *safety.SETS], job["part"], None)
            print("zero-shot", before, flush=True)
        line = trial(world, job, before)
        line["zero_shot"] = round(sum(before[name] for name in tasks.TASKS) / len(tasks.TASKS), 1)
        with options.trials.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
