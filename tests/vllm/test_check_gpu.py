"""The parts of the check of a GPU that need vLLM: the real one on the CPU, beside a simulated GPU."""

import json

from benchmarks import check_gpu
from tests.support.real_vllm import needs_vllm
from tests.support.simulated_gpu import simulated_gpu

pytestmark = needs_vllm


def checked(part, folder):
    with simulated_gpu():
        arguments = ["--shape", "few", "--parts", part, "--json", str(folder / "found.json")]
        assert check_gpu.main([*arguments, "--work", str(folder / "work")]) == 0
    return json.loads((folder / "found.json").read_text())[part]


def test_one_run_is_made_by_both_engines(tmp_path, vllm_on_cpu):
    found = checked("run", tmp_path)

    assert found["equal responses of hf and vllm"] == "108 of 108"
    assert found["by stage"] == ["36 of 36"] * 3
    assert found["equal responses of hf and hf in other batches, last stage"] == "36 of 36"
    assert found["by vllm"]["seconds by stage"]["stage 2"]["generate"] > 0


def test_vllm_by_itself_and_the_engine_say_the_same(tmp_path, vllm_on_cpu):
    found = checked("vllm", tmp_path)

    assert found["equal responses"] == "16 of 16"
    assert set(found["requests a second"]) == {"raw vllm", "the engine"}
    probe, free, _ = found["claims"]
    assert 0 < probe["measured"] <= probe["claimed"] == 0.3
    assert free["measured"] == free["claimed"], "on a CPU it has nothing of the card"
    assert found["seconds until the engine takes requests"] > found["seconds for new weights"] > 0
    assert not list((tmp_path / "work").rglob("model*.safetensors"))
