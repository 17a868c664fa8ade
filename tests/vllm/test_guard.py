"""A guard model that judges through vLLM: a language model of text alone, with a checkpoint of its own."""

from pathlib import Path

import pytest

from hpa_bench.judges.base import make_judge
from tests.support.guard import CASES, PLAIN, expected, row, saved, trained_guard
from tests.support.real_vllm import gone, needs_vllm

pytestmark = needs_vllm


def test_a_guard_judges_through_vllm_and_ends_with_it(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    guard = saved(*trained_guard(hidden=128), tmp_path / "guard", PLAIN)  # vLLM takes no narrower heads on a CPU
    judge = make_judge(f"llama_guard:model={guard}:engine=vllm")
    request.addfinalizer(judge.release)

    verdicts = judge.verdicts([row(*case) for case in CASES])

    assert verdicts == [expected(*case) for case in CASES]
    (process,) = judge._guard.client.processes
    judge.release()
    assert gone(process.pid)
