"""What several runs need is made by one of them, and the others' files are what they would have been, byte for byte."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from typer.testing import CliRunner

from hpa_bench.api import run_spec
from hpa_bench.cli import app
from hpa_bench.engines.base import engines
from hpa_bench.engines.hf import HFEngine
from hpa_bench.method import Method, methods
from hpa_bench.report import tables
from hpa_bench.report.conditions import conditions
from hpa_bench.results.run_folder import RunFolder, find_runs
from hpa_bench.results.runs import read_runs
from hpa_bench.runner import once
from hpa_bench.runner.events import LOG, read_log
from hpa_bench.runner.once import ONCE, Kept, trains_alike
from hpa_bench.spec import RunOptions, make_spec
from tests.support.faults import contents
from tests.support.suites import write_suite

METHODS = ("seqft", "wise_ft", "replay", "l2", "zero_shot")
"""The first makes all; wise_ft takes all; replay trains on the same samples in its first stage; l2 trains by another
loss; zero_shot trains nothing."""
ALL = {"training", "responses", "verdicts"}


class Own(Method):
    """Scores other weights than those that it is given, from the beginning."""

    name = "own"

    def evaluated(self, handed_on: Any, ctx: Any) -> Any:
        name = f"{ctx.linear_layers[0]}.weight"
        yield name, handed_on[name] * 0


class Packed(HFEngine):
    """Takes a further package."""

    name = "packed"
    packages = ("pytest",)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("suite"), cpu_threads=1)


def make(suite: Path, root: Path, method: str, *settings: str, **more: Any) -> RunFolder:
    spec = make_spec(RunOptions(str(suite), method, settings=settings, **more))
    return run_spec(spec, spec.default_folder(root), device="cpu")


def reused(run: RunFolder) -> set[str]:
    return {str(row["what"]) for row in read_log(run.path / LOG) if row["event"] == "reused"}


def steps(run: RunFolder) -> int:
    return sum(row["event"] == "step" and row["stage"] == 1 for row in read_log(run.path / LOG))


@pytest.mark.slow
def test_what_is_taken_is_what_would_have_been_made(suite: Path, tmp_path: Path) -> None:
    runs = {name: make(suite, tmp_path / "together", name) for name in METHODS}

    for name, run in runs.items():
        alone = make(suite, tmp_path / name, name)
        assert contents(run.path) == contents(alone.path), name
    assert {name: reused(run) for name, run in runs.items()} == {
        "seqft": set(),
        "wise_ft": ALL,
        "replay": ALL,
        "l2": ALL - {"training"},
        "zero_shot": ALL - {"training"},
    }
    assert {name: steps(run) for name, run in runs.items()} == {
        "seqft": 3,
        "wise_ft": 0,
        "replay": 0,
        "l2": 3,
        "zero_shot": 0,
    }
    _assert_costs_tell(runs)


def _assert_costs_tell(runs: dict[str, RunFolder]) -> None:
    first, second = runs["seqft"], runs["wise_ft"]
    assert all("shared" not in first.stage(index).cost for index in range(3))
    assert set(second.stage(0).cost["shared"]) == {"load", "generate", "score"}
    assert set(second.stage(1).cost["shared"]) == {"train"} and "shared" not in second.stage(2).cost
    for stage, step in ((0, "generate"), (1, "train")):
        made, taken = first.stage(stage).cost, second.stage(stage).cost
        # Of what its maker spent, and counted as if it were the taker's, who spends a little around it.
        assert 0 < taken["shared"][step] <= made["seconds"][step] + 0.002
        assert taken["seconds"][step] >= taken["shared"][step]
    assert second.stage(1).cost["steps"] == first.stage(1).cost["steps"] == 3
    (finished,) = [row for row in read_log(second.path / LOG) if row["event"] == "stage_finished" and row["stage"] == 1]
    assert finished["shared"] == second.stage(1).cost["shared"]


@pytest.mark.slow
def test_what_decides_it_decides_whether_it_is_taken(suite: Path, tmp_path: Path) -> None:
    make(suite, tmp_path, "seqft")

    assert reused(make(suite, tmp_path, "seqft", seed=1)) == ALL - {"training"}, "another seed"
    assert reused(make(suite, tmp_path, "seqft", noise=1)) == ALL - {"training"}, "a noise run"
    assert reused(make(suite, tmp_path, "seqft", harmful_ratio=0.5)) == ALL - {"training"}, "other samples"
    assert reused(make(suite, tmp_path, "seqft", "lora.rank=1")) == ALL - {"training"}, "another adapter"
    assert reused(make(suite, tmp_path, "seqft", "evaluation.batch_size=2")) == {"training"}, "other batches"
    assert reused(make(suite, tmp_path, "seqft", "judges=[]")) == {"training", "responses"}, "no judge"
    assert reused(make(suite, tmp_path, "seqft", order="2,1")) == set(), "another first task, another order of requests"
    (folder,) = tmp_path.glob("small/seqft-*/seed1")
    spec = make_spec(RunOptions(str(suite), "seqft", seed=1))
    assert reused(run_spec(spec, tmp_path / "own" / folder.name, device="cpu")) == set(), "a folder of its own"


@pytest.mark.slow
def test_another_version_of_an_engines_package_answers_anew(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.add(Packed, "packed")
    first = make(suite, tmp_path, "zero_shot", engine="packed")
    assert first.manifest.versions["pytest"] == version("pytest")
    assert reused(make(suite, tmp_path, "zero_shot", seed=1, engine="packed")) == {"responses", "verdicts"}

    monkeypatch.setattr("hpa_bench.machine.versions.version", lambda name: "0" if name == "pytest" else version(name))
    assert reused(make(suite, tmp_path, "zero_shot", seed=2, engine="packed")) == set()


@pytest.mark.slow
def test_a_method_that_scores_other_weights_shares_no_responses(suite: Path, tmp_path: Path) -> None:
    methods.add(Own, "own")
    make(suite, tmp_path, "zero_shot")

    assert reused(make(suite, tmp_path, "own")) == set()


@pytest.mark.slow
def test_two_at_a_time_wait_for_what_one_makes(suite: Path, tmp_path: Path) -> None:
    asked = ["compare", "--suite", str(suite), "--seeds", "0", "--device", "cpu"]
    asked += ["--methods", "seqft,wise_ft,ties", "--jobs", "3", "--runs", str(tmp_path)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output

    runs = [RunFolder(log.parent) for log in tmp_path.rglob(LOG)]
    assert sorted(steps(run) for run in runs) == [0, 0, 3], "the first task is trained once"
    assert sum("responses" not in reused(run) for run in runs) == 1, "the aligned model answers once"
    assert sum("verdicts" not in reused(run) for run in runs) == 1, "and is judged once"
    told = [(row["seconds_shared"], row["seconds_total"]) for row in _costs(tmp_path) if "seconds_shared" in row]
    assert told and all(0 < shared < total for shared, total in told)


def _costs(root: Path) -> list[dict[str, Any]]:
    return [row for condition in conditions(read_runs(find_runs([root]))) for row in tables.costs(condition)]


@pytest.mark.slow
def test_what_is_not_as_it_was_is_made_anew(
    suite: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(suite, tmp_path, "zero_shot")
    (spoiled,) = tmp_path.glob(f"{ONCE}/responses/*/harm.jsonl")
    spoiled.write_text("")

    second = make(suite, tmp_path, "zero_shot", seed=1)

    assert reused(second) == {"verdicts"} and "is made anew" in caplog.text
    assert spoiled.read_text() == (first.stage(0).path / "responses" / "harm.jsonl").read_text()
    assert reused(make(suite, tmp_path, "zero_shot", seed=2)) == {"responses", "verdicts"}


@pytest.mark.slow
def test_a_root_that_cannot_be_written_costs_time_alone(
    suite: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ONCE).write_text("in the way")

    run = make(suite, tmp_path, "zero_shot")

    assert reused(run) == set() and "cannot be shared" in caplog.text
    assert len(run.finished_stages()) == 1


def test_who_trains_as_sequential_tuning_does() -> None:
    assert {name for name in methods.names() if trains_alike(methods.get(name))} == set(
        "hpa joint magmax magnitude_columns model_tailor random_columns relative_columns replay resta safe_delta"
        " safelora scaled_update seqft ties wise_ft zero_shot".split()
    )


def test_what_is_kept_is_whole_or_not_there(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept", {"seed": 1})
    assert not kept.is_there

    kept.keep(lambda folder: (folder / "values").write_text("1"), seconds={"train": 2.0})

    assert kept.is_there and kept.facts == {"seconds": {"train": 2.0}}
    assert json.loads((kept.path / once.ABOUT).read_text()) == {"seed": 1}
    (kept.path / "values").write_text("2")
    assert not kept.is_there and not kept.path.exists()


@pytest.mark.parametrize("refusal", [OSError("No space left on device"), SafetensorError("I/O error: no space left")])
def test_what_the_disk_does_not_take_is_not_kept_and_hurts_nobody(refusal: Exception, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept", {"seed": 1})

    def fill(folder: Path) -> None:
        raise refusal

    kept.keep(fill, seconds={"train": 2.0})

    assert not kept.is_there and not list(tmp_path.iterdir())
