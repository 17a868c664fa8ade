"""`hpa-bench view`: it says where it is, answers, ends by Ctrl-C, and bad input is one sentence."""

import json
import signal
import subprocess
import sys
from urllib.request import urlopen

import pytest

from tests.support.run_folders import write_run


@pytest.mark.slow
def test_it_says_where_it_is_and_ends_by_ctrl_c(tmp_path):
    write_run(tmp_path)
    heavy = "print([name for name in ('torch', 'transformers', 'lm_eval') if name in sys.modules])"
    script = f"import sys, hpa_bench.cli.view; {heavy}; sys.stdout.flush(); from hpa_bench.cli import main; main()"
    command = [sys.executable, "-c", script, "view", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            loaded, said = process.stdout.readline(), process.stdout.readline()
            address = said.removeprefix("Samples: ").partition(" ")[0]
            with urlopen(f"{address}index.json", timeout=20) as answer:
                index = json.load(answer)
        finally:
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)

    assert loaded == "[]\n" and said == f"Samples: {address} (Ctrl-C ends it)\n"
    assert address.startswith("http://127.0.0.1:")
    assert [run["label"] for run in index["parts"][0]["runs"]] == ["hpa"]
    assert (process.returncode, rest, errors) == (0, "", "")


@pytest.mark.slow
def test_a_folder_without_runs_is_one_sentence(tmp_path):
    command = [sys.executable, "-m", "hpa_bench", "view", "nowhere"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    said = "Error: No run in nowhere: expected a folder with a manifest.json at or below it.\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)
