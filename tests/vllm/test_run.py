"""Whole runs by vLLM: what is stored equals what Hugging Face's run stores."""

import logging

import hpa_bench
from hpa_bench.engines.vllm_client import VLLMClient
from tests.support.real_vllm import needs_vllm, stored

pytestmark = needs_vllm
SETTINGS = ["tasks=[tiny_ad, tiny_fin]", "training.limit=64", "training.epochs=1", "evaluation.limit=12"]


def test_a_run_by_vllm_stores_what_a_run_by_hf_stores(tmp_path, monkeypatch):
    starts = []
    start = VLLMClient.start
    monkeypatch.setattr(VLLMClient, "start", lambda client: starts.append(client) or start(client))

    hf, vllm = (
        hpa_bench.run(method="resta", settings=SETTINGS, engine=engine, out=tmp_path / engine)
        for engine in ("hf", "vllm")
    )

    # On 360 short responses of an aligned model no near-tie is expected; see test_equality for where they are allowed.
    assert stored(vllm) == stored(hf)
    assert len(stored(vllm)) == 3 * (6 + 8 + 1)
    assert [run.stage(2).cost["engine"] for run in (hf, vllm)] == ["hf", "vllm"]
    assert len(starts) == 1, "one engine lives through the run"


def test_a_method_that_cannot_be_merged_falls_back_to_hf_with_one_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="hpa_bench"):
        run = hpa_bench.run(method="moelora", settings=SETTINGS, engine="vllm", out=tmp_path / "run")

    assert [record.getMessage() for record in caplog.records if record.name.startswith("hpa_bench")] == [
        "moelora generates with hf, not with vllm: the method carries an adapter of its own, which vLLM cannot load."
    ]
    assert [stage.cost["engine"] for stage in run.finished_stages()] == ["hf"] * 3
