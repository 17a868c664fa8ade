"""Verification: the run that tells most, made again by its manifest, and the first difference with its size."""

import json
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.files import write_jsonl
from hpa_bench.results.publish import publish
from hpa_bench.results.published import PublishedRun
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import Run, read_runs
from hpa_bench.results.source import FolderSource
from hpa_bench.runner import verify
from hpa_bench.runner.verify import check_verified, choose, first_difference, make_again, published_beside, spec_of
from hpa_bench.spec import RunOptions, make_spec
from tests.support.published import publish_committed
from tests.support.run_folders import SAFETY, TASKS, toy_manifest, write_run

SMALL = ["tasks=[tiny_ad]", "training.limit=16", "evaluation.limit=4", "calibration.task_samples=4"]


def manifest_of(options: RunOptions) -> object:
    spec = make_spec(options)
    about = spec.identity() | {"tasks": spec.suite.tasks, "stages": [list(tasks) for tasks in spec.stages]}
    return toy_manifest(**json.loads(json.dumps(about)))


def test_a_manifest_gives_back_the_spec_that_made_it() -> None:
    order = "fin,ad,flickr30k,imagenet,textvqa,scienceqa"
    options = RunOptions(method="hpa:p_max=20", seed=3, settings=["lora.rank=4", "training.epochs=1"], order=order)
    for each in (options, RunOptions(method="seqft", harmful_ratio=0.01), RunOptions(method="zero_shot")):
        found = spec_of(manifest_of(each))

        assert found.identity() == make_spec(each).identity()
        assert found.default_folder(Path()) == make_spec(each).default_folder(Path())


def test_another_version_of_the_suite_is_refused() -> None:
    manifest = manifest_of(RunOptions(settings=["version=9"]))

    with pytest.raises(UserError, match="The published run is of tiny version 9, and this hpa-bench has version"):
        spec_of(manifest)


def test_the_run_that_tells_most_is_chosen(tmp_path: Path) -> None:
    made = [("zero_shot", 0, []), ("seqft", 0, None), ("hpa", 1, None), ("hpa", 0, None)]
    runs = [write_run(tmp_path, method, seed, stages=stages) for method, seed, stages in made]

    assert (choose(read_runs(runs)).label, choose(read_runs(runs)).seed) == ("hpa", 0)
    assert choose(read_runs(runs[:2])).label == "seqft" and choose(read_runs(runs[:1])).label == "zero_shot"


def spoiled(root: Path, name: str) -> Run:
    """The same run, but for the responses to a set from stage 2 on: the first three are others."""
    run = write_run(root)
    for stage in run.finished_stages()[2:]:
        rows = stage.responses(name)
        rows[:3] = [row | {"response": f"{row['response']} or so"} for row in rows[:3]]
        if name in TASKS:
            rows[:2] = [row | {"score": 1.0 - row["score"]} for row in rows[:2]]
        write_jsonl(stage.path / "responses" / f"{name}.jsonl", rows)
    return Run(run)


def test_the_first_difference_and_how_large_it_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs")
    out = [publish(FolderSource(run), tmp_path / name, show_unsafe=name == "with").path for name in ("with", "without")]
    full, hidden = (Run(PublishedRun(path)) for path in out)
    assert first_difference(full, Run(run)) is None

    here = spoiled(tmp_path / "task", TASKS[0])
    found = first_difference(full, here)
    assert found is not None
    assert (found.stage, found.set, found.count, found.n, found.all_known) == (2, TASKS[0], 3, 40, True)
    scores = [100 * sum(one.scores[TASKS[0]]) / 40 for one in (full.data[2], here.data[2])]
    assert str(found) == (
        f"stage 2, {TASKS[0]}: 3 of 40 responses, accuracy {scores[0]:.1f} published and {scores[1]:.1f} here"
    )

    unsafe = first_difference(hidden, spoiled(tmp_path / "safety", SAFETY[0]))
    assert unsafe is not None and not unsafe.all_known, "no texts of safety sets are published"
    assert str(unsafe).startswith(f"stage 2, {SAFETY[0]}: some of 40 responses, asr ")


@pytest.mark.slow
def test_a_published_run_is_made_again_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # While this is developed the code is uncommitted, and its runs could not be published.
    monkeypatch.setattr(verify, "uncommitted", lambda: False)
    first = make_again(_planned(tmp_path), tmp_path / "first")
    path = publish_committed(RunFolder(first.path), tmp_path / "out").path
    said: list[str] = []

    check_verified(Run(PublishedRun(path)), said.append)
    check_verified(Run(PublishedRun(path)), said.append)

    assert [text.partition(":")[0] for text in said] == [
        "Verifying on this machine",
        "Every response equal to the published run.",
        "zero_shot, seed 0",
    ]
    own = first.manifest.model_copy(update={"method": "mine"})
    assert [run.label for run in published_beside([own], tmp_path / "out", said.append)] == ["zero_shot"]

    # A run that has other responses here, as if its processor rounded otherwise.
    stage = RunFolder(first.path).stage(0)
    rows = stage.responses("tiny_ad")
    write_jsonl(stage.path / "responses" / "tiny_ad.jsonl", [{**row, "response": "other"} for row in rows])
    monkeypatch.setattr(verify, "make_again", lambda *_: Run(RunFolder(first.path)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    (stage.path / "DONE").write_text("")
    with pytest.raises(UserError, match=r"zero_shot, seed 0, differs on this machine .* stage 0, tiny_ad: 4 of 4 resp"):
        check_verified(Run(PublishedRun(path)), said.append)


def _planned(root: Path) -> Run:
    """A run that is not made yet, by its manifest."""
    manifest = manifest_of(RunOptions(method="zero_shot", settings=[*SMALL, "safety_sets=[]", "benign_sets=[]"]))
    manifest.write(root / "planned" / "manifest.json")
    return Run(RunFolder(root / "planned"))


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"There are no published results in {tmp_path}: expected what `hpa-bench pub"):
        published_beside([toy_manifest()], tmp_path, print)
