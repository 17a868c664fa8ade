import json
import multiprocessing
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.files import atomic, read_jsonl, write_json, write_jsonl
from hpa_bench.results.run_folder import RunFolder, find_runs
from tests.support.run_folders import toy_manifest


def test_atomic_leaves_nothing_behind_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "scores.json"
    write_json(target, {"ap": 1.0})

    with pytest.raises(RuntimeError), atomic(target) as partial:
        partial.write_text("half")
        raise RuntimeError

    assert json.loads(target.read_text()) == {"ap": 1.0}


def test_atomic_replaces_a_whole_folder(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with atomic(tmp_path / "weights") as partial:
            partial.mkdir()
            (partial / content).touch()

    assert [entry.name for entry in (tmp_path / "weights").iterdir()] == ["new"]


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "scores.json", {"ap": float("nan")})


def test_jsonl_round_trip_keeps_every_line_end_in_a_response(tmp_path: Path) -> None:
    rows = [{"id": "1", "response": "a\u2028b\x85c\nd"}, {"id": "2", "response": "’"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)

    assert read_jsonl(tmp_path / "rows.jsonl") == rows


def _hold(path: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with RunFolder(path).locked():
        ready.set()
        multiprocessing.Event().wait()


def test_a_live_run_holds_its_folder_and_a_killed_one_does_not(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(30)

    with (
        pytest.raises(UserError, match=rf"in use by another run \(process {holder.pid} on "),
        RunFolder(tmp_path).locked(),
    ):
        pass

    holder.kill()
    holder.join()
    with RunFolder(tmp_path).locked():
        pass


def test_whoever_asks_hears_whether_a_run_is_live_and_disturbs_nobody(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert not run.is_live and not run.path.exists()

    with run.locked():
        assert RunFolder(run.path).is_live
    assert not run.is_live


def test_a_folder_of_another_configuration_is_refused_by_key(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.claim(toy_manifest(config={"p_max": 15.0}, versions={"torch": "a"}))

    run.claim(toy_manifest(config={"p_max": 15.0}, versions={"torch": "b"}))
    with pytest.raises(UserError, match=r"another configuration: config\.p_max is 15\.0 there and 20\.0 here"):
        run.claim(toy_manifest(config={"p_max": 20.0}, versions={"torch": "a"}))

    assert run.manifest == toy_manifest(config={"p_max": 15.0}, versions={"torch": "a"})


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()

    with pytest.raises(UserError, match=r"not empty and holds no manifest\.json \(it has 'thesis\.tex'\)"):
        RunFolder(tmp_path).claim(toy_manifest())


def test_costs_of_a_resumed_stage_add_up(tmp_path: Path) -> None:
    stage = RunFolder(tmp_path).stage(1)
    stage.add_cost(seconds={"train": 2.0}, steps=50)
    stage.add_cost(seconds={"train": 1.0, "adapt": 0.5})

    assert stage.cost == {"seconds": {"train": 3.0, "adapt": 0.5}, "steps": 50}


def test_finished_stages_end_at_the_first_gap(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for index in (0, 1, 3):
        run.stage(index).finish({})

    assert len(run.finished_stages()) == 2


def test_find_runs_names_the_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No run in"):
        find_runs([tmp_path])


def test_failure_of_a_run_that_left_nothing_is_recorded_until_the_run_begins(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.record_failure(toy_manifest(), "no data")

    assert [folder.path for folder in find_runs([tmp_path])] == [run.path]
    assert (run.path / "FAILED").read_text() == "no data"
    assert run.manifest.planned
    run.claim(toy_manifest(seed=1, data={"a": "0"}))
    assert run.manifest == toy_manifest(seed=1, data={"a": "0"})


def test_failure_that_a_run_recorded_itself_stays(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.claim(toy_manifest())
    with pytest.raises(RuntimeError), run.recording_failure():
        raise RuntimeError("the reason")

    run.record_failure(toy_manifest(), "its last line")

    assert (run.path / "FAILED").read_text() == "RuntimeError: the reason"
    assert run.manifest == toy_manifest()
