"""What can be forked from, each time in a process of its own."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are warm starts on Linux alone")


def said(script: str, **environment: str) -> str:
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"from hpa_bench.launchers import warm_server\n{script}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout.strip()


def test_a_process_that_has_computed_nothing_is_fit() -> None:
    assert said("print(repr(warm_server.unfit()))") == "''"


def test_threads_that_end_at_a_fork_are_no_hindrance() -> None:
    script = (
        "import os, numpy\n"
        "a = numpy.ones((300, 300))\n"
        "(a @ a).sum()\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "print(before > 1, repr(warm_server.unfit()), (a @ a).sum() == 300.0 ** 3)"
    )

    assert said(script, OPENBLAS_NUM_THREADS="2") == "True '' True"


def test_other_threads_are(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import threading, time\n"
        "warm_server.SETTLE_SECONDS = 0.1\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "print(warm_server.unfit(), flush=True)\n"
    )

    assert said(script) == "it has 2 threads"


def test_a_gpu_that_is_in_use_is() -> None:
    script = (
        "warm_server.GPUS = ('/dev/zero',)\n"  # In the place of a device that this machine may not have.
        "file = open('/dev/zero')\n"
        "print(warm_server.unfit())\n"
    )

    assert said(script) == "it has /dev/zero open"


def test_what_is_not_there_is_not_imported_and_garbage_is_collected_again() -> None:
    script = (
        "import gc, sys\n"
        "warm_server.preload(['no_such_package', 'wave'])\n"
        "print('wave' in sys.modules, gc.isenabled(), gc.get_freeze_count() > 0)\n"
    )

    assert said(script) == "True True True"
