"""Runs of a real Ray with nodes of their own: one killed, some that lack what a run needs, and a compare that stops."""

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpa_bench.results.run_folder import FAILED
from hpa_bench.spec import RunOptions, make_spec
from tests.support.clusters import Compared, attempts, hangs, numbers, stalling
from tests.support.suites import write_suite

ray_cluster = pytest.importorskip("tests.support.ray_cluster", reason="Ray is not installed: `make test-cluster`")

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ray_cluster.Cluster]":
    if reason := ray_cluster.lacking():
        pytest.skip(f"Ray: {reason}. Nothing of launcher 'ray' was tried on a cluster.")
    with ray_cluster.cluster(tmp_path_factory.mktemp("ray")) as made:
        yield made


@pytest.fixture
def cluster(head: "ray_cluster.Cluster") -> "Iterator[ray_cluster.Cluster]":
    """A cluster whose nodes are the test's own."""
    yield head
    for name in set(head.nodes) - {ray_cluster.HEAD}:
        head.kill(name)


def test_what_a_killed_node_made_goes_on_at_another(
    cluster: "ray_cluster.Cluster", suite: Path, tmp_path: Path, unbroken: dict[int, dict[str, object]]
) -> None:
    cluster.add("one")
    cluster.add("two")
    plugin = stalling(tmp_path, 1)
    launch = ["ray", f"address={cluster.address}"]
    made = Compared(suite, tmp_path / "runs", "0-1", launch, options=["--plugin", str(plugin)])
    dead = hangs(plugin, 1)
    cluster.kill(dead)
    code, printed = made.end()

    assert code == 0, printed
    assert {seed: numbers(made.run(seed)) for seed in (0, 1)} == unbroken
    assert attempts(made.run(1)) == [dead, "two" if dead == "one" else "one"]


def test_stopped_a_compare_ends_its_runs_and_goes_on_with_the_same_command(
    cluster: "ray_cluster.Cluster", suite: Path, tmp_path: Path, unbroken: dict[int, dict[str, object]]
) -> None:
    cluster.add("one")
    plugin = stalling(tmp_path, 1)
    launch = ["ray", f"address={cluster.address}"]
    made = Compared(suite, tmp_path / "runs", "1", launch, options=["--plugin", str(plugin)])
    hangs(plugin, 1)
    made.process.send_signal(signal.SIGINT)
    made.end()
    alive = subprocess.run(["pgrep", "-f", f"hpa_bench run.*{tmp_path}"], capture_output=True, text=True).stdout
    assert alive == ""

    code, printed = Compared(suite, tmp_path / "runs", "1", launch, options=["--plugin", str(plugin)]).end()
    assert code == 0, printed
    assert numbers(made.run(1)) == unbroken[1]


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        ("mount -t tmpfs none {runs}", "cannot be written (No such file or directory): every node must have"),
        (
            "mount --bind -o ro {runs} {runs} && mount -o remount,bind,ro {runs}",
            "cannot be written (Read-only file system): every node must have",
        ),
        ("mount -t tmpfs none {data}", "(on node bare)"),
        ("export PYTHONPATH={site}", "other versions are installed there, peft 99.0 instead of"),
    ],
    ids=["runs of its own", "read-only runs", "no data", "other versions"],
)
def test_a_node_that_lacks_something_says_so(
    setup: str, message: str, cluster: "ray_cluster.Cluster", tmp_path: Path
) -> None:
    runs, data, site = tmp_path / "runs", tmp_path / "data", tmp_path / "site"
    runs.mkdir()
    (other := site / "peft-99.0.dist-info").mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 99.0\n")
    suite = write_suite(data)
    cluster.add("bare", setup.format(runs=runs, data=data, site=site))
    made = Compared(suite, runs, "0", ["ray", f"address={cluster.address}"])
    code, printed = made.end()

    assert code == 1
    assert message in printed and "(on node bare)" in printed
    assert "(on node bare)" in (made.run(0) / FAILED).read_text()


def test_a_disk_that_is_full_on_one_node_alone(
    cluster: "ray_cluster.Cluster", suite: Path, tmp_path: Path, unbroken: dict[int, dict[str, object]]
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    launch = ["ray", f"address={cluster.address}"]
    run = make_spec(RunOptions(str(suite), "seqft")).default_folder(runs)
    cluster.add("full", f"mount -t tmpfs -o size=200k none {runs} && mkdir -p {run.parent}")
    code, printed = Compared(suite, runs, "0", launch).end()
    assert code == 1 and re.search(r"([Tt]he disk of .* is full|needs .* free).*\(on node full\)", printed), printed

    cluster.kill("full")
    cluster.add("roomy")
    made = Compared(suite, runs, "0", launch)
    assert made.end()[0] == 0, made.printed()
    assert numbers(made.run(0)) == unbroken[0]


def test_no_cluster_there(suite: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{ray_cluster.free_port()}"
    code, printed = Compared(suite, tmp_path / "runs", "0", ["ray", f"address={address}"]).end()

    assert code == 2 and f"No Ray cluster can be reached at {address} (" in printed


def test_more_than_this_machine_has(suite: Path, tmp_path: Path) -> None:
    code, printed = Compared(suite, tmp_path / "runs", "0", ["ray", "cpus=4000", "address=local"]).end()

    assert code == 2 and "This machine has not the 4000 CPU cores" in printed
