"""Which device a run computes on, told before anything is read; what needs a machine without a GPU skips elsewhere."""

from pathlib import Path

import pytest
import torch
import yaml

from hpa_bench import run
from hpa_bench.errors import UserError
from hpa_bench.machine.device import choose_device
from hpa_bench.spec import RunOptions, make_spec
from hpa_bench.suite import BUNDLED
from tests.support.suites import write_suite

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def test_the_cpu_is_there_and_need_not_be_asked_for() -> None:
    assert choose_device("cpu", "real", wants_gpu=True) == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cdua", r"Unknown device 'cdua' in --device\. Did you mean 'cuda'\? Available: auto, cpu, cuda\."),
        ("nonsense", "Unknown device 'nonsense' in --device"),
        ("cuda:1", "CUDA_VISIBLE_DEVICES=1"),
        pytest.param("cuda", "finds no GPU here.*--device cpu", marks=without_gpu),
    ],
)
def test_a_device_that_is_not_there_is_one_sentence(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        choose_device(name)

    assert "\n" not in str(caught.value)


@without_gpu
def test_a_suite_that_asks_for_a_gpu_says_so_before_it_reads_anything(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, gpu=True)
    (tmp_path / "tasks" / "colours.json").write_text("no rows")

    with pytest.raises(UserError, match="Suite 'small' asks for a GPU .* insist with --device cpu"):
        run(str(suite), "seqft", out=tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_a_suite_that_asks_for_a_gpu_runs_on_the_cpu_where_the_user_insists(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, gpu=True)

    assert len(run(str(suite), "zero_shot", out=tmp_path / "run", device="cpu").finished_stages()) == 1


def test_asking_for_a_gpu_is_no_part_of_what_makes_a_run() -> None:
    plain, asking = make_spec(RunOptions("tiny")), make_spec(RunOptions("tiny", settings=["gpu=true"]))

    assert plain.identity() == asking.identity()
    assert plain.default_folder(Path("runs")) == asking.default_folder(Path("runs"))


@pytest.mark.parametrize("suite", ["cvit", "ucit", "mllm-dcl", "coin"])
def test_the_suites_of_real_models_ask_for_a_gpu(suite: str) -> None:
    assert yaml.safe_load((BUNDLED / f"{suite}.yaml").read_text())["gpu"] is True
