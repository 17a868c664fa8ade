"""One random tiny checkpoint of each tested architecture, saved as a user's: real classes, real special tokens.

Tokenizers are built here, image processors are the PIL ones, and chat templates are built like the published ones: the
same special tokens in the same places, images as their own parts, the same opening of the assistant's turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests.support.models import WORDS

LAYERS = 3
HIDDEN = 32
CORPUS = [
    " ".join(WORDS),
    "USER: ASSISTANT: User: Assistant: user\nassistant\nmodel\nsystem\n[INST] [/INST] You are helpful.",
]

VICUNA = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
MISTRAL = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
    "{% for part in message['content'] %}{{ '<image>\n' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "{{ ' [/INST]' }}{% else %}{{ ' ' + message['content'][0]['text'] + '</s>' }}{% endif %}{% endfor %}"
)
_CHATML_TURNS = (
    "<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML = "{% for message in messages %}" + _CHATML_TURNS
QWEN = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}" + _CHATML_TURNS
)
IDEFICS = (
    "{% for message in messages %}{{ message['role'] | capitalize }}"
    "{{ ':' if message['content'][0]['type'] == 'image' else ': ' }}"
    "{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{% for part in message['content'] %}"
    "{{ '<start_of_image>' if part['type'] == 'image' else part['text'] | trim }}{% endfor %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


class Architecture(NamedTuple):
    """What is random and tiny of one model type, and where its turns end."""

    build: Callable[[], tuple[Any, Any]]
    """Returns `(model, processor)`."""
    blocks: str
    """The name of the decoder blocks in a published checkpoint."""
    end_of_turn: str
    """The token that ends an answer; the tokenizer's and the configuration's end of text may be another."""
    video_processor: str | None = None
    """The class of the processor's video half, which a published checkpoint names too."""


def save(name: str, folder: Path) -> Path:
    """Write the checkpoint of an architecture and return its folder."""
    import torch

    architecture = (ARCHITECTURES | REFUSED)[name]
    torch.manual_seed(0)
    model, processor = architecture.build()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if architecture.video_processor:
        file = folder / "processor_config.json"
        settings = json.loads(file.read_text())
        settings["video_processor"] = {"video_processor_type": architecture.video_processor}
        file.write_text(json.dumps(settings))
    return folder


def byte_level_tokenizer(special: Sequence[str], **roles: Any) -> Any:
    """Return a byte-level BPE tokenizer, as Qwen's, Llama 3's and SmolLM's are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return _wrapped(backend, special, roles)


def sentencepiece_tokenizer(special: Sequence[str], bos: str, prefix: str = "always", **roles: Any) -> Any:
    """Return a BPE tokenizer on `▁` words with byte fall-back and a beginning of text, as Llama's and Gemma's are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix)
    backend.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme=prefix), decoders.ByteFallback()])
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=pieces, show_progress=False))
    tokenizer = _wrapped(backend, special, {**roles, "bos_token": bos, "unk_token": "<unk>"})
    number = tokenizer.convert_tokens_to_ids(bos)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, number)]
    )
    return tokenizer


def _wrapped(backend: Any, special: Sequence[str], roles: dict[str, Any]) -> Any:
    from transformers import PreTrainedTokenizerFast

    backend.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **roles)


def _text(tokenizer: Any, **settings: Any) -> dict[str, Any]:
    """Return the settings that the text configurations of all these models share."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        # Large enough that greedy choices are not near-ties.
        "initializer_range": 0.3,
        **settings,
    }


def _vision(image_size: int, patch: int, **settings: Any) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": image_size,
        "patch_size": patch,
        **settings,
    }


def _generating(model: Any, *ends: int) -> Any:
    """Give a model the ends of text of a published generation configuration."""
    model.generation_config.eos_token_id = list(ends)
    return model.eval()


def llava() -> tuple[Any, Any]:
    """Return LLaVA-1.5: CLIP, an MLP, Vicuna."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = sentencepiece_tokenizer(["<s>", "</s>", "<image>", "<pad>"], "<s>", eos_token="</s>", pad_token="<pad>")
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}),
        tokenizer=tokenizer,
        patch_size=12,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=VICUNA,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_vision(24, 12)),
        text_config=LlamaConfig(**_text(tokenizer)),
        image_token_index=processor.image_token_id,
        image_seq_length=4,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _generating(LlavaForConditionalGeneration(config), tokenizer.eos_token_id), processor


def llava_next() -> tuple[Any, Any]:
    """Return LLaVA-NeXT: CLIP on tiles of the image, an MLP, Mistral."""
    from transformers import (
        CLIPVisionConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextProcessor,
        MistralConfig,
    )
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    tokenizer = sentencepiece_tokenizer(["<s>", "</s>", "<image>", "<pad>"], "<s>", eos_token="</s>", pad_token="<pad>")
    pinpoints = [[24, 48], [48, 24], [48, 48]]
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, image_grid_pinpoints=pinpoints
        ),
        tokenizer=tokenizer,
        patch_size=12,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=MISTRAL,
    )
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**_vision(24, 12)),
        text_config=MistralConfig(**_text(tokenizer, sliding_window=None)),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=pinpoints,
        image_seq_length=4,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _generating(LlavaNextForConditionalGeneration(config), tokenizer.eos_token_id), processor


def llava_onevision() -> tuple[Any, Any]:
    """Return LLaVA-OneVision: SigLIP on tiles of the image, an MLP, Qwen2."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    tokenizer = _qwen_tokenizer("<image>", "<video>")
    pinpoints = [[24, 24], [24, 48], [48, 24], [48, 48]]
    processor = _images_only(LlavaOnevisionProcessor)(
        LlavaOnevisionImageProcessorPil(size={"height": 24, "width": 24}, image_grid_pinpoints=pinpoints),
        tokenizer,
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=CHATML.replace("IMAGE", "<image>\n"),
    )
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**_vision(24, 12, vision_use_head=False)),
        text_config=Qwen2Config(**_text(tokenizer)),
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    return _generating(LlavaOnevisionForConditionalGeneration(config), tokenizer.eos_token_id), processor


def qwen2_vl() -> tuple[Any, Any]:
    """Return Qwen2-VL: a vision transformer on images of any size, Qwen2 with positions in three dimensions."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    vision = {"depth": 2, "embed_dim": HIDDEN, "hidden_size": HIDDEN, "mlp_ratio": 2}
    return _qwen(Qwen2VLProcessor, Qwen2VLConfig, Qwen2VLForConditionalGeneration, vision)


def qwen2_5_vl() -> tuple[Any, Any]:
    """Return Qwen2.5-VL: Qwen2-VL with windows in its vision transformer."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    vision = {
        "depth": 2,
        "hidden_size": HIDDEN,
        "out_hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    return _qwen(Qwen2_5_VLProcessor, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, vision)


def qwen3_vl() -> tuple[Any, Any]:
    """Return Qwen3-VL, whose decoder adds visual features between its blocks."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    vision = {
        "depth": 2,
        "hidden_size": HIDDEN,
        "out_hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    return _qwen(Qwen3VLProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration, vision)


def _qwen(kind: Any, config_kind: Any, model_kind: Any, vision: dict[str, Any]) -> tuple[Any, Any]:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = _qwen_tokenizer("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    patch = 4
    processor = _images_only(kind)(
        Qwen2VLImageProcessorPil(patch_size=patch, min_pixels=(2 * patch) ** 2, max_pixels=(6 * patch) ** 2),
        tokenizer,
        chat_template=QWEN.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    number = tokenizer.convert_tokens_to_ids
    config = config_kind(
        vision_config={"num_heads": 4, "patch_size": patch, "in_channels": 3, **vision},
        text_config=_text(
            tokenizer,
            # Sections of the 4 frequencies of a head of 8: time, height, width.
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]},
        ),
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
    )
    return _generating(model_kind(config), number("<|im_end|>"), number("<|endoftext|>")), processor


def smolvlm() -> tuple[Any, Any]:
    """Return SmolVLM: SigLIP on tiles of the image, pixel shuffle, SmolLM2."""
    from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMProcessor
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    tokenizer = byte_level_tokenizer(
        ["<|im_start|>", "<|im_end|>", *_IDEFICS_SPECIAL],
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        extra_special_tokens=_IDEFICS_ROLES,
    )
    processor = _images_only(SmolVLMProcessor)(
        SmolVLMImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 24}),
        tokenizer,
        None,
        image_seq_len=1,
        chat_template="<|im_start|>" + IDEFICS,
    )
    config = SmolVLMConfig(
        vision_config=_vision(24, 12),
        text_config=LlamaConfig(**_text(tokenizer)),
        scale_factor=2,
        image_token_id=processor.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _generating(SmolVLMForConditionalGeneration(config), tokenizer.eos_token_id), processor


def idefics3() -> tuple[Any, Any]:
    """Return Idefics3: SigLIP on tiles of the image, pixel shuffle, Llama 3."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, LlamaConfig
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = byte_level_tokenizer(
        ["<|begin_of_text|>", "<|end_of_text|>", *_IDEFICS_SPECIAL],
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        pad_token="<|end_of_text|>",
        extra_special_tokens=_IDEFICS_ROLES,
    )
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 24}),
        tokenizer,
        image_seq_len=1,
        chat_template="<|begin_of_text|>" + IDEFICS,
    )
    config = Idefics3Config(
        vision_config=_vision(24, 12),
        text_config=LlamaConfig(**_text(tokenizer)),
        scale_factor=2,
        image_token_id=processor.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _generating(Idefics3ForConditionalGeneration(config), tokenizer.eos_token_id), processor


def internvl() -> tuple[Any, Any]:
    """Return InternVL in its transformers form: InternViT on tiles of the image, pixel shuffle, Qwen2."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor, Qwen2Config
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    roles = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _qwen_tokenizer(*roles.values(), extra_special_tokens=roles)
    processor = _images_only(InternVLProcessor)(
        GotOcr2ImageProcessorPil(size={"height": 24, "width": 24}, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer,
        image_seq_length=1,
        chat_template=CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )
    config = InternVLConfig(
        vision_config=_vision(24, 12),
        text_config=Qwen2Config(**_text(tokenizer)),
        image_token_id=processor.image_token_id,
        image_seq_length=1,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    return _generating(InternVLForConditionalGeneration(config), tokenizer.eos_token_id), processor


def gemma3() -> tuple[Any, Any]:
    """Return Gemma 3: SigLIP, pooling, blocks of sliding and of full attention, images attended to both ways."""
    import torch
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    roles = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = sentencepiece_tokenizer(
        ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", *roles.values()],
        "<bos>",
        prefix="never",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=roles,
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 24, "width": 24}), tokenizer, chat_template=GEMMA, image_seq_length=4
    )
    number = tokenizer.convert_tokens_to_ids
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**_vision(24, 6, vision_use_head=False)),
        text_config=Gemma3TextConfig(
            **_text(
                tokenizer,
                head_dim=8,
                query_pre_attn_scalar=8,
                # Shorter than a prompt, so that blocks see different positions.
                sliding_window=8,
                layer_types=["sliding_attention"] * (LAYERS - 1) + ["full_attention"],
            )
        ),
        mm_tokens_per_image=4,
        boi_token_index=number("<start_of_image>"),
        eoi_token_index=number("<end_of_image>"),
        image_token_index=number("<image_soft_token>"),
    )
    model = Gemma3ForConditionalGeneration(config)
    # Made of zeros, which would hide every image.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)
    return _generating(model, number("<eos>")), processor


_IDEFICS_ROLES = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}
_IDEFICS_SPECIAL = [*_IDEFICS_ROLES.values(), *(f"<row_{row}_col_{col}>" for row in range(1, 4) for col in range(1, 4))]


def _qwen_tokenizer(*more: str, **roles: Any) -> Any:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *more]
    return byte_level_tokenizer(special, eos_token="<|im_end|>", pad_token="<|endoftext|>", **roles)


def _images_only(kind: Any) -> Any:
    """Return a processor class that can be built without the video half, which needs torchvision."""
    names = [name for name in kind.get_attributes() if name != "video_processor"]
    return type(
        kind.__name__,
        (kind,),
        {
            "get_attributes": classmethod(lambda cls: names),
            "video_processor": SimpleNamespace(num_frames=None, fps=None),
        },
    )


ARCHITECTURES = {
    "llava": Architecture(llava, "language_model.model.layers", "</s>"),
    "llava_next": Architecture(llava_next, "language_model.model.layers", "</s>"),
    "llava_onevision": Architecture(
        llava_onevision, "language_model.model.layers", "<|im_end|>", "LlavaOnevisionVideoProcessor"
    ),
    "qwen2_vl": Architecture(qwen2_vl, "model.layers", "<|im_end|>", "Qwen2VLVideoProcessor"),
    "qwen2_5_vl": Architecture(qwen2_5_vl, "model.layers", "<|im_end|>", "Qwen2VLVideoProcessor"),
    "smolvlm": Architecture(smolvlm, "model.text_model.layers", "<end_of_utterance>", "SmolVLMVideoProcessor"),
    "idefics3": Architecture(idefics3, "model.text_model.layers", "<end_of_utterance>"),
    "internvl": Architecture(internvl, "language_model.model.layers", "<|im_end|>", "InternVLVideoProcessor"),
    "gemma3": Architecture(gemma3, "language_model.model.layers", "<end_of_turn>"),
}
REFUSED = {
    # Calibration block by block does not see what is added between blocks.
    "qwen3_vl": Architecture(qwen3_vl, "model.language_model.layers", "<|im_end|>", "Qwen3VLVideoProcessor"),
}
