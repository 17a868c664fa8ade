"""A run's results by its folder: hashes of responses, and what no report reads further."""

import hashlib

import pytest

from hpa_bench.errors import UserError
from hpa_bench.files import read_jsonl, write_jsonl
from hpa_bench.results.source import FolderSource, digest_of, read_stages
from tests.support.run_folders import TASKS, write_run


def test_the_digest_is_that_of_pairs_sorted_by_id(tmp_path):
    rows = [{"id": "b", "response": 'é "x"', "score": 1.0}, {"id": "a", "response": "1", "score": 0.0}]

    assert digest_of(rows) == hashlib.sha256('[["a","1"],["b","é \\"x\\""]]'.encode()).digest()
    shuffled, sorted_ = (FolderSource(write_run(tmp_path / str(how), shuffle=how)) for how in (True, False))
    assert shuffled.digest(2, TASKS[0]) == sorted_.digest(2, TASKS[0])


def test_stages_on_other_samples_are_refused(tmp_path):
    run = write_run(tmp_path)
    path = run.stage(2).path / "responses" / f"{TASKS[1]}.jsonl"
    write_jsonl(path, read_jsonl(path)[1:])

    with pytest.raises(UserError, match=rf"{TASKS[1]}.jsonl does not match stage 0: it lacks the id '{TASKS[1]}-000'"):
        read_stages(FolderSource(run))


def test_why_a_run_failed_is_one_line(tmp_path):
    run = write_run(tmp_path, finished=1)
    source = FolderSource(run)
    (run.path / "FAILED").write_text("no\nequation  today\n")

    assert source.failure == "no equation today" and FolderSource(write_run(tmp_path, "seqft")).failure == ""
