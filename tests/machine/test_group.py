"""Processes of one run: alone nothing is joined, and two really hand each other what they have, in order."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from hpa_bench.errors import UserError
from hpa_bench.machine.group import _join, barrier, from_main, gather_in_order, together

TOGETHER = """
import json
from hpa_bench.machine.group import from_main, gather_in_order, together
from hpa_bench.machine.processes import rank
with together("cpu", print) as device:
    items = list(range(5))[rank() :: 2]
    print(json.dumps([device, from_main(f"of {rank()}"), gather_in_order(items)]))
"""


def test_one_process_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    recorded: list[str] = []
    mine = [object(), object()]

    with pytest.raises(UserError, match="bad"), together("cuda", recorded.append) as device:
        assert device == "cuda"
        barrier()
        assert from_main(mine) is mine
        assert gather_in_order(tuple(mine)) == mine
        raise UserError("bad")
    assert recorded == [], "there is no other process that could have failed"


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)

    with pytest.raises(UserError, match=r"More processes than GPUs on this machine \(2\): .*--num_processes 2"):
        _join("cuda")


@pytest.mark.slow
def test_two_processes_have_the_firsts_value_and_all_items_in_order() -> None:
    # A launcher holds the store by which its processes find each other.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "OMP_NUM_THREADS": "1"}
    shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "PYTHONPATH": str(Path(__file__).parents[2])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        said = [process.communicate(timeout=40)[0] for process in started]
    finally:
        for process in started:
            process.kill()

    assert [process.returncode for process in started] == [0, 0]
    assert said == ['["cpu", "of 0", [0, 1, 2, 3, 4]]\n'] * 2
