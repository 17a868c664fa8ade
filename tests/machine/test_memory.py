"""Tensors that are freed leave no memory behind, also below one that lives on."""

import subprocess
import sys

import pytest

CODE = """
import sys, torch
from pathlib import Path
from hpa_bench.machine.memory import return_tensors
if sys.argv[1] == "returned":
    return_tensors()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
torch.zeros(4, 2**20)  # once such a one is freed, glibc puts the next into its heap
before = resident()
many = [torch.ones(4, 2**20) for _ in range(20)]
last = torch.ones(2**10)
del many
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_memory_below_a_tensor_that_lives_on_goes_back() -> None:
    left = {
        how: int(subprocess.run([sys.executable, "-c", CODE, how], check=True, capture_output=True, text=True).stdout)
        for how in ("returned", "as it is")
    }

    assert left["returned"] < 2**24 < left["as it is"]
