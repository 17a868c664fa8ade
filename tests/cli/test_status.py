"""`hpa-bench status` on logs of runs, and while it is watched."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.machine.lease import Lease
from hpa_bench.results.run_folder import LEASE
from tests.support.logs import steady, write_log


def test_it_tells_of_every_run_and_sums_up(tmp_path: Path) -> None:
    write_log(tmp_path / "toy" / "seqft-1a2b3c4d" / "seed0", steady((5, 5)))
    write_log(tmp_path / "toy" / "seqft-1a2b3c4d" / "seed1", steady((5, 5), seed=1)[:30])
    result = CliRunner().invoke(app, ["status", str(tmp_path)])

    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "seqft-1a2b3c4d, seed 0: done, AP 52.0, MASR 20.0",
        "seqft-1a2b3c4d, seed 1: stopped",
        "1 done, 1 stopped",
    ]


def test_a_folder_without_runs_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpa_bench", "status", str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr == f"Error: No run in {tmp_path}: expected a folder with an events.jsonl at or below it.\n"


def test_it_loads_nothing_heavy(tmp_path: Path) -> None:
    write_log(tmp_path, steady((5, 5)))
    script = (
        "import sys; from typer.testing import CliRunner; from hpa_bench.cli import app\n"
        f"assert CliRunner().invoke(app, ['status', {str(tmp_path)!r}]).exit_code == 0\n"
        "print([name for name in ('torch', 'transformers', 'lm_eval', 'pandas', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_watched_it_ends_when_nothing_is_on_its_way(tmp_path: Path) -> None:
    rows = steady((5, 5))
    write_log(tmp_path, rows[:30])
    lease = Lease(tmp_path / LEASE)
    lease.take()

    def finish() -> None:
        time.sleep(1)
        write_log(tmp_path, rows)
        lease.release()

    threading.Thread(target=finish).start()
    result = CliRunner().invoke(app, ["status", str(tmp_path), "--watch"])

    assert result.exit_code == 0
    assert "1 running" in result.output and result.output.splitlines()[-1] == "1 done"
