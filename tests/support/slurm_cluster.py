"""A real Slurm on this machine, from Debian's packages, with files of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
CONFIG = """
ClusterName=hpabench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={controller}
SlurmdPort={node}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=2000
ReturnToService=2
KillWait=3
MessageTimeout=10
MinJobAge=10
MaxJobCount=6
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=6000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str:
    """Why no Slurm can be started here; "" where one can."""
    if os.geteuid():
        return "only root may start slurmctld and slurmd"
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    return f"no {missing[0]} is installed: run `make system-cluster`" if missing else ""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """Start Slurm, with files below a folder, and yield the path of its slurm.conf, for SLURM_CONF."""
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    config = folder / "slurm.conf"
    ports = {"controller": free_port(), "node": free_port()}
    config.write_text(CONFIG.format(host=host, folder=folder, cpus=os.cpu_count(), **ports))
    # What a container of fewer processors has would let slurmd refuse the node.
    env = os.environ | {"SLURM_CONF": str(config)}
    munged = _start_munge(folder)
    try:
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon], env=env, check=True, timeout=60)
        until = time.monotonic() + 60
        while not _idle(env):
            assert time.monotonic() < until, (folder / "slurmctld.log").read_text()[-2000:]
            time.sleep(0.5)
        yield config
    finally:
        subprocess.run(["scancel", "--me"], env=env, timeout=60)
        time.sleep(4)
        for daemon in ("slurmd", "slurmctld"):
            if (pid := folder / f"{daemon}.pid").exists():
                _end(int(pid.read_text()))
        if munged is not None:
            munged.terminate()
            munged.wait()


def _start_munge(folder: Path) -> subprocess.Popen[bytes] | None:
    """Start munged, as the user munge, unless one runs."""
    if subprocess.run(["munge", "-n"], capture_output=True).returncode == 0:
        return None
    run = Path("/run/munge")
    run.mkdir(exist_ok=True)
    shutil.chown(run, "munge", "munge")
    started = subprocess.Popen(["munged", "--foreground"], user="munge", group="munge", extra_groups=[])
    until = time.monotonic() + 20
    while subprocess.run(["munge", "-n"], capture_output=True).returncode:
        assert time.monotonic() < until and started.poll() is None, "munged does not start"
        time.sleep(0.2)
    return started


def _idle(env: dict[str, str]) -> bool:
    told = subprocess.run(["sinfo", "-h", "-o", "%T"], env=env, capture_output=True, text=True, timeout=60)
    return told.stdout.strip() in ("idle", "mixed", "allocated")


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
