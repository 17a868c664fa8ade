"""`hpa-bench --version`."""

import subprocess
import sys
from importlib.metadata import version


def test_the_version_is_said_and_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-m", "hpa_bench", "--version"], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == (f"hpa-bench {version('hpa-bench')}\n", "")
