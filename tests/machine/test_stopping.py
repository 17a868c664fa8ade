"""Signals to real processes: the first is handled, the second ends, and nothing is left."""

import signal
import subprocess
import sys
import time

import pytest

from hpa_bench.machine.stopping import SIGNALS

RAISED = """
import time
from hpa_bench.machine.stopping import Stopped, stops_raised
try:
    with stops_raised():
        print("ready", flush=True)
        time.sleep(60)
except Stopped as stopped:
    print("stopped", stopped.number, flush=True)
    time.sleep(60)
"""
NOTED = """
import time
from hpa_bench.machine.stopping import stops_noted
with stops_noted() as asked:
    print("ready", flush=True)
    while asked.number is None:
        time.sleep(0.01)
print("stopped", asked.number, flush=True)
time.sleep(60)
"""


def start(script: str) -> subprocess.Popen[str]:
    # Where the tests are a shell's background job they ignore SIGINT, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert line(process) == "ready"
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("script", [RAISED, NOTED], ids=["raised", "noted"])
@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_heard_and_the_second_ends_at_once(script: str, number: signal.Signals) -> None:
    process = start(script)
    process.send_signal(number)
    assert line(process) == f"stopped {int(number)}"

    began = time.monotonic()
    process.send_signal(number)

    assert process.wait(20) == (130 if number == signal.SIGINT else -number)
    assert time.monotonic() - began < 5


def test_an_ignored_signal_stays_ignored() -> None:
    process = start("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + RAISED)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None

    process.send_signal(signal.SIGTERM)
    assert line(process) == f"stopped {int(signal.SIGTERM)}"
    process.kill()
    process.communicate()


def test_what_ends_without_a_signal_handles_them_as_before() -> None:
    script = (
        "import signal\n"
        "from hpa_bench.machine.stopping import stops_raised\n"
        "with stops_raised():\n    pass\n"
        "print('ready', flush=True); print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)"
    )
    process = start(script)

    assert line(process) == "True"
    assert process.wait(20) == 0
