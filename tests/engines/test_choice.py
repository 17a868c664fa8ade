from importlib.util import find_spec
from pathlib import Path

import pytest

from hpa_bench.engines.choice import choose
from hpa_bench.errors import UserError
from hpa_bench.spec import RunOptions, make_spec

BILLIONS = 7_000_000_000


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr("hpa_bench.engines.choice.find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("asked", "mergeable", "device", "parameters", "chosen"),
    [
        ("auto", True, "cuda", BILLIONS, ("vllm", "7.0 B parameters on a GPU")),
        ("auto", True, "cuda:1", 1_500_000, ("hf", "1.5 M parameters; vllm pays from 100 M")),
        ("auto", True, "cpu", BILLIONS, ("hf", "on cpu")),
        ("auto", False, "cuda", BILLIONS, ("hf", "the method carries an adapter of its own, which vLLM cannot load")),
        ("vllm", False, "cpu", 1, ("hf", "the method carries an adapter of its own, which vLLM cannot load")),
        ("vllm", True, "cpu", 1, ("vllm", "as asked")),
        ("hf", False, "cuda", BILLIONS, ("hf", "as asked")),
        ("mine", False, "cuda", BILLIONS, ("mine", "as asked")),
    ],
)
def test_who_generates(installed, asked, mergeable, device, parameters, chosen):
    assert choose(asked, mergeable=mergeable, device=device, parameters=parameters) == chosen


def test_several_processes_share_the_requests_of_hf_out(installed):
    chosen = choose("auto", mergeable=True, device="cuda", parameters=BILLIONS, processes=2)

    assert chosen == ("hf", "2 processes share the requests out")


def test_auto_does_without_what_is_not_installed(monkeypatch):
    monkeypatch.setattr("hpa_bench.engines.choice.find_spec", lambda name: None)

    assert choose("auto", mergeable=True, device="cuda", parameters=BILLIONS) == ("hf", "vllm is not installed")


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed here")
def test_vllm_that_is_asked_for_and_not_installed_is_refused_before_anything_is_loaded():
    with pytest.raises(
        UserError, match=r"Engine 'vllm' is not installed: run `pip install 'hpa-bench\[vllm\]'`, or choose --engine hf"
    ):
        make_spec(RunOptions("tiny", "seqft", settings=["evaluation.engine=vllm"]))


def test_the_engine_is_no_part_of_what_makes_a_run(monkeypatch):
    monkeypatch.setattr("hpa_bench.engines.vllm.find_spec", lambda name: name)
    settings = ["evaluation.engine=vllm", "evaluation.engines.vllm.data_parallel_size=2"]
    asked, default = make_spec(RunOptions("tiny", "seqft", settings=settings)), make_spec(RunOptions("tiny", "seqft"))

    assert (
        asked.suite.evaluation.engines == {"vllm": {"data_parallel_size": 2}}
        and default.suite.evaluation.engine == "auto"
    )
    assert asked.identity() == default.identity()
    assert asked.default_folder(Path("runs")) == default.default_folder(Path("runs"))


def test_an_unknown_engine_is_refused():
    with pytest.raises(UserError, match=r"Unknown engine 'vlm'. Did you mean 'vllm'\? Available: hf, vllm"):
        make_spec(RunOptions("tiny", "seqft", settings=["evaluation.engine=vlm"]))
