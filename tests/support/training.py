"""Small trainings of a random LLaVA, and what they leave of its adapter."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import Tensor, nn

from hpa_bench.data.samples import Sample
from hpa_bench.method import Method
from hpa_bench.models.decoder import find_decoder
from hpa_bench.runner.training import Training, train
from hpa_bench.suite import TrainingConfig
from tests.support.models import random_llava

ANSWERS = ("red", "a green house", "yes", "three dog cat")


def samples(count: int) -> list[Sample]:
    images = [Image.new("RGB", (24, 24), (40 * (index % 6), 90, 200 - 20 * (index % 7))) for index in range(count)]
    return [
        Sample(f"s{index}", "colours", "<image>\nwhat colour is this ?", ANSWERS[index % len(ANSWERS)], [image])
        for index, image in enumerate(images)
    ]


def wrapped() -> nn.Module:
    model, _ = random_llava()
    targets = find_decoder(model).linear_layers
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False))


def trained(folder: Path, data: list[Sample], method: Method | None = None, **config: Any) -> dict[str, Tensor]:
    model = wrapped()
    train(
        model,
        data,
        Training(
            method=method or Method(),
            processor=random_llava()[1],
            config=TrainingConfig(**{"learning_rate": 1e-3, **config}),
            seed=0,
            folder=folder,
            where="stage 2 (colours)",
        ),
    )
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters() if tensor.requires_grad}
