"""`hpa-bench convert-llava`: the stage-1 model that a benchmark of LLaVA-1.5 starts from."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Aspect(StrEnum):
    """How an image that is no square becomes one, by LLaVA's names."""

    PAD = "pad"
    SQUARE = "square"


class Dtype(StrEnum):
    """In which type weights are written."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


def convert_llava(
    language_model: Annotated[str, typer.Option(help="Vicuna, as in lmsys/vicuna-7b-v1.5: a folder or a hub name.")],
    projector: Annotated[Path, typer.Option(help="LLaVA's mm_projector.bin of stage 1.")],
    vision: Annotated[str, typer.Option(help="CLIP, as in openai/clip-vit-large-patch14-336: a folder or a hub name.")],
    out: Annotated[Path, typer.Option(help="The new checkpoint's folder; it must not hold anything yet.")],
    image_aspect_ratio: Annotated[
        Aspect,
        typer.Option(help="pad images to a square in the mean colour, as LLaVA-1.5 trains, or cut their middle."),
    ] = Aspect.PAD,
    dtype: Annotated[Dtype | None, typer.Option(help="Of the weights; by default the language model's.")] = None,
) -> None:
    """Make the LLaVA of transformers from Vicuna, a projector and CLIP, with the prompts of `vicuna_v1`."""
    from hpa_bench.models.conversion import Parts, convert_llava

    parts = Parts(language_model, projector, vision)
    convert_llava(parts, out, image_aspect_ratio.value, None if dtype is None else dtype.value)
    print(f"Checkpoint: {out}")
