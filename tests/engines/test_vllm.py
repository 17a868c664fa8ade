"""The vLLM engine where vLLM is missing, and the files that its weights are read from."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file

from hpa_bench.engines.vllm import VLLMEngine, tensors_of
from hpa_bench.errors import UserError
from hpa_bench.models.weights import Checkpoint
from tests.support.models import random_llava, save_random_llava


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed here")
def test_where_vllm_is_missing_one_sentence_says_what_to_do_before_a_model_is_looked_for() -> None:
    sentence = r"^Engine 'vllm' is not installed: run `pip install 'hpa-bench\[vllm\]'`, or choose --engine hf\.$"
    with pytest.raises(UserError, match=sentence):
        VLLMEngine.check()
    with pytest.raises(UserError, match=sentence):
        VLLMEngine.open("no/such/model")
    with pytest.raises(UserError, match=sentence):
        VLLMEngine(None, None)


def test_changed_tensors_are_read_from_a_file_of_their_own(tmp_path: Path) -> None:
    folder = save_random_llava(tmp_path / "model", seed=1)
    checkpoint = Checkpoint(folder, random_llava()[0])
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    file = tmp_path / "engine" / "changes.safetensors"

    unchanged = tensors_of(checkpoint, {}, file)
    assert not file.exists()
    parts = tensors_of(checkpoint, {name: checkpoint[name] + 1}, file)

    stored = checkpoint.places[name][1]
    everything = sorted(one for part in unchanged for one in part.names)
    assert stored in everything and sorted(one for part in parts for one in part.names) == everything
    assert [part.names for part in parts if part.file == str(file)] == [[stored]]
    assert (load_file(file)[stored] == checkpoint[name] + 1).all()
