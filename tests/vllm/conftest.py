"""What tests of the real vLLM beside a simulated GPU share."""

import pytest
import torch

from hpa_bench.engines import vllm_client

CPU = torch.device("cpu")


@pytest.fixture
def vllm_on_cpu(monkeypatch):
    """Let the engine's processes be started for the CPU, whatever the model is on."""

    options, environment = vllm_client.llm_options, vllm_client.process_environment
    monkeypatch.setattr(
        vllm_client, "llm_options", lambda checkpoint, dtype, device, config: options(checkpoint, dtype, CPU, config)
    )
    monkeypatch.setattr(
        vllm_client, "process_environment", lambda device, config, replica: environment(CPU, config, replica)
    )
