"""What of launcher `ray` needs no cluster; tests/cluster has a real one."""

import socket

import pytest

from hpa_bench.errors import UserError
from hpa_bench.launchers.base import make_launcher
from hpa_bench.launchers.ray import _knock


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpa_bench.launchers.ray.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: run `pip install 'hpa-bench\[ray\]'`"):
        make_launcher("ray").check("cpu")


def test_it_has_a_queue_of_its_own() -> None:
    assert make_launcher("ray:cpus=2").room("cpu") is None


def test_an_option_of_another_launcher() -> None:
    with pytest.raises(UserError, match="Unknown key 'partition' of launcher 'ray'"):
        make_launcher("ray:partition=gpu")


@pytest.mark.parametrize("address", ["{}", "ray://{}", "local", "auto", "ray://{}/extra"])
def test_somebody_listens_or_nobody_can_be_asked(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        _knock(address.format(f"127.0.0.1:{server.getsockname()[1]}"))


@pytest.mark.parametrize("address", ["{}", "ray://{}"])
def test_nobody_listens(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConnectionRefusedError):
        _knock(address.format(closed))
