"""A real Ray cluster on this machine, whose nodes have host names, processes and mounts of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
import ray

from tests.support.slurm_cluster import free_port

HEAD = "head"
RAY = str(Path(sys.executable).parent / "ray")
SECONDS = 180
ATTEMPTS = 4
"""How long, and how often, a node has to start."""


def lacking() -> str:
    """Why no nodes can be started here; "" where they can."""
    if os.geteuid():
        return "only root may start nodes with names and mounts of their own"
    return "" if shutil.which("unshare") else "no unshare is installed: run `make system-cluster`"


class Cluster:
    """A head without a processor for runs, and nodes of one each."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._folder = folder
        self._start(HEAD, ["--head", f"--port={self.address.rpartition(':')[2]}", "--num-cpus=0"], "true")

    def add(self, name: str, setup: str = "true") -> None:
        """Start a node.

        Args:
            name: its host name.
            setup: shell that runs first, in the node's own mount namespace and environment.
        """
        self._start(name, [f"--address={self.address}", "--num-cpus=1"], setup)

    def kill(self, name: str) -> None:
        """End a node as a power cut does: all its processes at once."""
        node = self.nodes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGTERM if name == HEAD else signal.SIGKILL)
        node.wait()

    def _start(self, name: str, options: list[str], setup: str) -> None:
        start = [RAY, "start", "--block", "--disable-usage-stats", "--include-dashboard=false"]
        # A node waits 15 s for the ports that its agents choose themselves, which a busy machine may exceed.
        ports = (
            "metrics-export-port",
            "dashboard-agent-grpc-port",
            "dashboard-agent-listen-port",
            "runtime-env-agent-port",
        )
        start += [f"--{port}={free_port()}" for port in ports]
        start += [f"--node-name={name}", "--object-store-memory=80000000", *options]
        if "--head" not in options:
            start.remove("--include-dashboard=false")
        # The first process of a PID namespace takes all others with it when it is killed. The head is of this machine,
        # since the driver speaks to it.
        own = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if "--head" in options:
            own, script = [], 'exec "$@"'
        else:
            script = f'hostname {name} && {setup} && exec "$@"'
        # Workers are at 15 by default, and would wait for all else that a busy machine does.
        env = os.environ | {"RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
        env["RAY_health_check_failure_threshold"] = "3"
        # Ray gives up a node that is not up within 15 or 30 s, which a busy machine may exceed.
        for _ in range(ATTEMPTS):
            with (self._folder / f"{name}.log").open("wb") as log:
                self.nodes[name] = subprocess.Popen(
                    [*own, "sh", "-c", script, "sh", *start],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=True,
                )
            if self._is_up(name):
                return
            self.kill(name)
        raise AssertionError((self._folder / f"{name}.log").read_text(errors="replace")[-2000:])

    def _is_up(self, name: str) -> bool:
        """Wait until a node is up, or has given up."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and self.nodes[name].poll() is None:
            if self._alive() == len(self.nodes):
                return True
            time.sleep(1)
        return False

    def _alive(self) -> int:
        told = subprocess.run(
            [sys.executable, "-c", ALIVE, self.address], capture_output=True, text=True, timeout=SECONDS
        )
        return int(told.stdout.strip() or 0)


ALIVE = """
import sys
from ray._raylet import GcsClientOptions
from ray._private.state import GlobalState
state = GlobalState()
options = {"allow_cluster_id_nil": True, "fetch_cluster_id_if_nil": False}
state._initialize_global_state(GcsClientOptions.create(sys.argv[1], None, **options))
print(sum(node["Alive"] for node in state.node_table()))
"""


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start a cluster with a head alone and a token of its own, and end it with all its nodes."""
    with pytest.MonkeyPatch.context() as patch:
        # Without a mode, whether Ray wants a token depends on whether this user has ever had one.
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", uuid4().hex)
        made = Cluster(folder)
        try:
            yield made
        finally:
            for name in list(made.nodes):
                made.kill(name)


assert ray.__version__
