"""A run as a node makes it, with a real child process: a few lines of Python take the place of the run."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from _thread import interrupt_main
from pathlib import Path

import pytest

from hpa_bench.launchers.base import Job
from hpa_bench.launchers.node import SPEC, ClusterConfig, NodeRun
from hpa_bench.machine.versions import versions
from hpa_bench.spec import RunOptions, RunSpec, make_spec

NODE = f" (on node {socket.gethostname()})"


def node_run(folder: Path, script: str, *arguments: str, attempts: int | None = None) -> NodeRun:
    return NodeRun(["-c", script, *arguments], "the spec", str(folder / "log"), 3, versions(), attempts)


def test_a_job_travels_as_text_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job(make_spec(RunOptions("tiny", "seqft")), Path("runs/seed0"), Path("runs/seed0.log"), "cpu")
    run = pickle.loads(pickle.dumps(NodeRun.of(job, ClusterConfig(cpus=2))))

    assert run.arguments == [
        *("-m", "hpa_bench", "run", "--spec", SPEC, "--out", str(tmp_path / "runs/seed0")),
        *("--device", "cpu", "--no-report"),
    ]
    assert RunSpec.from_json(run.spec) == job.spec
    assert (run.log, run.threads, run.versions) == (str(tmp_path / "runs/seed0.log"), 2, versions())


def test_several_gpus_share_a_run_by_accelerate(tmp_path: Path) -> None:
    job = Job(make_spec(RunOptions("tiny", "seqft")), tmp_path / "seed0", tmp_path / "seed0.log", "cuda")
    arguments = NodeRun.of(job, ClusterConfig(gpus=4)).arguments

    assert arguments[:2] == ["-m", "accelerate.commands.launch"]
    assert arguments[arguments.index("--num_processes") + 1] == "4"
    assert arguments[arguments.index("hpa_bench") + 1 :][:3] == ["run", "--spec", SPEC]


@pytest.mark.parametrize(
    ("given", "device", "gpus"), [(None, "cuda", 1), (None, "cpu", 0), (None, "auto", 0), (3, "auto", 3)]
)
def test_gpus_of_a_run(given: int | None, device: str, gpus: int) -> None:
    assert ClusterConfig(gpus=given).gpus_of(device) == gpus


def test_it_gets_its_spec_and_threads_and_its_log_is_added_to(tmp_path: Path) -> None:
    script = "import os, sys; print(open(sys.argv[1]).read(), os.environ['OMP_NUM_THREADS'])"
    run = node_run(tmp_path, script, SPEC)

    assert (run(), run()) == ("", "")
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[1::2] == ["the spec 3", "the spec 3"]
    assert [line.split()[:2] for line in lines[::2]] == [["Attempt", "1"], ["Attempt", "2"]]


def test_why_it_failed_and_where(tmp_path: Path) -> None:
    assert node_run(tmp_path, "raise SystemExit('Error: no such task.')")() == f"no such task{NODE}"
    assert node_run(tmp_path, "raise SystemExit(3)")() == f"exit status 3{NODE}"
    killed = node_run(tmp_path, "import os; os.kill(os.getpid(), 9)")()
    assert killed.startswith("ended by signal 9, as where memory runs out") and killed.endswith(NODE)


def test_a_node_without_the_folder_says_so(tmp_path: Path) -> None:
    run = node_run(tmp_path / "nowhere", "print()")

    assert run() == (
        f"{tmp_path}/nowhere/log cannot be written (No such file or directory): every node must have the folder of the"
        f" runs under this path, with room in it{NODE}"
    )


def test_a_node_of_other_versions_makes_nothing(tmp_path: Path) -> None:
    run = node_run(tmp_path, "print()")
    run.versions = versions() | {"torch": "1.0"}

    assert run().startswith("other versions are installed there, torch ")
    assert not (tmp_path / "log").exists()


def test_a_run_that_is_lost_too_often_is_begun_no_more(tmp_path: Path) -> None:
    run = node_run(tmp_path, "raise SystemExit(3)", attempts=2)

    assert [run() for _ in range(3)] == [
        *[f"exit status 3{NODE}"] * 2,
        f"lost 2 times with its node or worker, as where memory runs out{NODE}",
    ]


@pytest.mark.slow
def test_it_dies_with_whoever_started_it(tmp_path: Path) -> None:
    script = f"""
import tests.launchers.test_node as here
from pathlib import Path
here.node_run(Path({str(tmp_path)!r}), "import os, time; print(os.getpid(), flush=True); time.sleep(60)")()
"""
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    log = tmp_path / "log"
    while not log.exists() or len(log.read_text().splitlines()) < 2:
        assert starter.poll() is None
        time.sleep(0.1)
    child = int(log.read_text().splitlines()[1])
    os.kill(child, signal.SIGUSR2)
    time.sleep(0.2)
    os.kill(child, 0)
    starter.kill()
    starter.wait()

    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("it lives on")


@pytest.mark.slow
def test_a_signal_handler_ends_it_while_it_is_waited_for(tmp_path: Path) -> None:
    script = f"""
import signal
import tests.launchers.test_node as here
from pathlib import Path
run = here.node_run(Path({str(tmp_path)!r}), "import time; print('begun', flush=True); time.sleep(600)")
signal.signal(signal.SIGUSR2, lambda *_: run.end())
print(run())
"""
    starter = subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    log = tmp_path / "log"
    while not log.exists() or "begun" not in log.read_text():
        assert starter.poll() is None
        time.sleep(0.1)
    starter.send_signal(signal.SIGUSR2)

    assert starter.communicate(timeout=20)[0] == f"ended by signal 15{NODE}\n"


def test_an_interrupt_that_no_signal_comes_with_ends_it(tmp_path: Path) -> None:
    run = node_run(tmp_path, "import time; print('begun', flush=True); time.sleep(600)")
    log = tmp_path / "log"

    def interrupt() -> None:
        while not log.exists() or "begun" not in log.read_text():
            time.sleep(0.05)
        interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run()

    assert run.process.wait(0) == -signal.SIGTERM
