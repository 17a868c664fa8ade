"""Runs as tasks of a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, ClassVar

from pydantic import Field

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import Job, Launcher, LauncherConfig
from hpa_bench.launchers.node import GRACE_SECONDS, ClusterConfig, NodeRun

LOCAL = "local"
REACH_SECONDS = 10


class RayConfig(ClusterConfig):
    """Options of `ray`."""

    address: str = ""
    """A running cluster, as in head:6379 or ray://head:10001; local: one on this machine. Unset: RAY_ADDRESS, or
    local."""
    restarts: int = Field(20, ge=0, le=1000)
    """How often a run whose node or worker was lost goes on elsewhere."""


class Ray(Launcher):
    """Hand runs to a Ray cluster, or to one of this machine; what a lost node made goes on at another."""

    name: ClassVar[str] = "ray"
    Config: ClassVar[type[LauncherConfig]] = RayConfig

    def check(self, device: str) -> None:
        """Connect to the cluster."""
        if find_spec("ray") is None:
            raise UserError("Launcher 'ray' is not installed: run `pip install 'hpa-bench[ray]'`.")
        ray = _ray()
        address = self.config.address or os.environ.get("RAY_ADDRESS") or LOCAL
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                _knock(address)
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            except Exception as error:
                said = str(error).strip().partition("\n")[0] or type(error).__name__
                what = (
                    "Ray cannot be started here" if address == LOCAL else f"No Ray cluster can be reached at {address}"
                )
                raise UserError(
                    f"{what} ({said}): start a cluster (ray start --head) and give its address by --set"
                    " launch.address=HOST:6379."
                ) from error
        wanted = {"CPU": self.config.cpus, "GPU": self.config.gpus_of(device)}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if address == LOCAL and not any(all(has.get(kind, 0) >= n for kind, n in wanted.items()) for has in nodes):
            raise UserError(
                f"This machine has not the {wanted['CPU']} CPU cores and {wanted['GPU']} GPUs that launch.cpus and"
                " launch.gpus ask for a run: lower them, or give a cluster by --set launch.address=HOST:6379."
            )

    def room(self, device: str) -> None:
        """Leave it to Ray, which has a queue."""

    def submit(self, job: Job) -> Any:
        """Put a task into Ray's queue."""
        ray = _ray()
        needs = {"num_cpus": self.config.cpus, "num_gpus": self.config.gpus_of(job.device)}
        task = ray.remote(max_retries=self.config.restarts, **needs)(_make)
        # Ray counts some losses, such as of memory, as no attempt, and would try for ever.
        return task.remote(NodeRun.of(job, self.config, 1 + self.config.restarts))

    def poll(self, handle: Any) -> str | None:
        """Return None while the task waits or runs, then why it failed."""
        ray = _ray()
        if not ray.wait([handle], timeout=0)[0]:
            return None
        try:
            return str(ray.get(handle))
        except ray.exceptions.TaskCancelledError:
            return "cancelled in Ray"
        except ray.exceptions.RayError as error:
            return f"lost by Ray ({type(error).__name__}: {_last_line(error)})"

    def cancel(self, handle: Any) -> None:
        """End a task, and its run with it."""
        self.cancel_together([handle])

    def cancel_together(self, handles: Sequence[Any]) -> None:
        """End tasks at once; those that do not end in time lose their worker, and their run dies with it."""
        ray = _ray()
        left = list(handles)
        for force in (False, True):
            for handle in left:
                with suppress(ray.exceptions.RayError, ValueError):
                    ray.cancel(handle, force=force)
            if left:
                left = ray.wait(left, num_returns=len(left), timeout=2 * GRACE_SECONDS)[1]


def _ray() -> Any:
    """Return Ray, which takes a second to import and may not be installed."""
    import ray

    return ray


def _knock(address: str) -> None:
    """Try whether anyone listens, since Ray itself takes two minutes to say that nobody does."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()


def _make(run: NodeRun) -> str:
    """Make a run in a worker of Ray's."""
    return run()


def _last_line(error: Exception) -> str:
    return ([line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"])[-1]
