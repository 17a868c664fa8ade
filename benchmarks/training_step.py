"""CPU-seconds of a training step here over those of plain transformers Trainer + peft on the same batches.

Run: python benchmarks/training_step.py [--rounds 5] [--suite small --batch 16 --steps 4 --threads 2]

Both train a suite's model on its first task, in turn, so that a drift of the machine's speed meets both alike.
Logits of answers alone are as the suite says. With --keep-features ours keeps image features, as runs do: each image of
this one epoch is then new, so that keeping costs, and what later epochs and stages save is not seen. Seconds of the
clock beside those of processors say what further threads are worth, on a machine that is idle.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.method import Method
from hpa_bench.models.adapters import attach_lora
from hpa_bench.models.decoder import find_decoder
from hpa_bench.models.features import keep_features
from hpa_bench.models.loading import load_model
from hpa_bench.models.prompts import training_batch
from hpa_bench.runner.training import Training, train
from hpa_bench.spec import RunOptions, make_spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--suite", default="tiny")
    parser.add_argument("--model", help="in place of the suite's own")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, help="rows of a step, in place of the suite's own")
    parser.add_argument("--threads", type=int, help="in place of the suite's own")
    parser.add_argument("--keep-features", action="store_true", help="keep the features of images, as runs do")
    options = parser.parse_args()
    rounds, steps = options.rounds, options.steps
    suite = make_spec(RunOptions(options.suite, "seqft"), model=False).suite
    torch.set_num_threads(options.threads or suite.cpu_threads or 1)
    task = suite.tasks[0]
    samples = training_samples(load_tasks([task], suite.task_folders())[task])
    size = options.batch or suite.training.batch_size
    batches = (samples * (steps * size // len(samples) + 1))[: steps * size]
    config = suite.training.model_copy(update={"epochs": 1.0, "batch_size": size})

    base = options.model or suite.model_path()

    def ours(folder: Path) -> tuple[float, float]:
        model, processor = load_model(base)
        decoder = find_decoder(model)
        if options.keep_features:
            keep_features(model, decoder, suite.image_features.mebibytes)
        model = attach_lora(model, suite.lora, decoder.linear_layers)
        started = time.process_time(), time.perf_counter()
        train(
            model,
            batches,
            Training(method=Method(), processor=processor, config=config, seed=0, folder=folder, where="here"),
        )
        return time.process_time() - started[0], time.perf_counter() - started[1]

    def plain(folder: Path) -> tuple[float, float]:
        model, processor = load_model(base)
        targets = find_decoder(model).linear_layers
        model = get_peft_model(
            model, LoraConfig(r=suite.lora.rank, lora_alpha=suite.lora.alpha, target_modules=targets)
        )
        arguments = TrainingArguments(
            output_dir=str(folder),
            learning_rate=config.learning_rate,
            num_train_epochs=1,
            per_device_train_batch_size=size,
            lr_scheduler_type=config.scheduler,
            warmup_steps=config.warmup_ratio,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            use_cpu=True,
        )
        started = time.process_time(), time.perf_counter()
        Trainer(model, arguments, train_dataset=batches, data_collator=partial(training_batch, processor)).train()
        return time.process_time() - started[0], time.perf_counter() - started[1]

    ratios, seconds, clock = [], [], []
    for turn in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            (a, a_clock), (b, b_clock) = ours(Path(folder) / "ours"), plain(Path(folder) / "plain")
        print(f"round {turn} of {rounds}: {a / steps:.3f} and {b / steps:.3f} CPU-seconds a step", flush=True)
        if turn:  # The first round warms up.
            ratios.append(a / b)
            seconds.append((a / steps, b / steps))
            clock.append((a_clock / steps, b_clock / steps))
    print(f"ours / plain: median {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")
    for what, each in (("CPU-seconds", seconds), ("seconds", clock)):
        ours_median, plain_median = (statistics.median(column) for column in zip(*each, strict=True))
        print(f"{what} a step: ours {ours_median:.4f}, plain {plain_median:.4f}")
    print(f"Batch {size}, {steps} steps a training, {torch.get_num_threads()} threads.")


if __name__ == "__main__":
    main()
