"""Tiny random models with real processors, built in milliseconds, for tests that need a model but no skill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

IMAGE_SIZE = 24
WORDS = [
    "user",
    "assistant",
    "system",
    "what",
    "colour",
    "is",
    "this",
    "red",
    "green",
    "blue",
    "yellow",
    "yes",
    "no",
    "how",
    "many",
    "one",
    "two",
    "three",
    "a",
    "the",
    "it",
    "there",
    "are",
    "dog",
    "cat",
    "house",
    "tree",
    ".",
    ",",
    "?",
    "!",
    ":",
    "sorry",
    "i",
    "cannot",
    "help",
    "with",
    "that",
    "step",
    "first",
    "then",
    "done",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} :"
    "{% if message['content'] is string %} {{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{{ ' <image>' if part['type'] == 'image' else ' ' + part['text'] }}"
    "{% endfor %}{% endif %}"
    "{{ '<eos>' if message['role'] == 'assistant' else '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"
)


def word_tokenizer(words: list[str] | None = None) -> Any:
    """Return a word-level tokenizer over `words` with the special tokens of a LLaVA."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<bos>", "<eos>", "<unk>", "<image>"]
    vocabulary = {word: index for index, word in enumerate([*special, *dict.fromkeys(words or WORDS)])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    return tokenizer


def random_llama(
    words: list[str] | None = None, hidden: int = 32, chat_template: str = CHAT_TEMPLATE
) -> tuple[Any, Any]:
    """Return `(model, tokenizer)`: a language model that reads text alone, with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = word_tokenizer(words)
    tokenizer.chat_template = chat_template
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval(), tokenizer


def random_llava(
    seed: int = 0, hidden: int = 32, layers: int = 2, chat_template: str | None = CHAT_TEMPLATE
) -> tuple[Any, Any]:
    """Return `(model, processor)`: a LLaVA with random weights, 24 x 24 images and four visual tokens an image."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = word_tokenizer()
    patch = IMAGE_SIZE // 2
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
        ),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=chat_template,
    )
    vision = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=patch,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        # Large enough that greedy choices are not near-ties.
        initializer_range=0.3,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(IMAGE_SIZE // patch) ** 2,
        vision_feature_layer=-1,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


def save_random_llava(folder: Path, **options: Any) -> Path:
    """Write `random_llava` as a checkpoint folder and return it."""
    model, processor = random_llava(**options)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
