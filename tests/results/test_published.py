"""Published results: they say what the run folders say, each run in one file that is written once."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hpa_bench.errors import UserError
from hpa_bench.files import write_jsonl
from hpa_bench.results import published
from hpa_bench.results.published import PublishedRun, find_published, find_results, run_name
from hpa_bench.results.runs import Run, load_runs, read_runs
from tests.support.published import out_of
from tests.support.reports import report_of
from tests.support.run_folders import (
    BENIGN,
    SAFETY,
    TASKS,
    rewrite_manifest,
    write_forms,
    write_references,
    write_run,
    write_thumbnails,
    write_updates,
)


def full_run(root, method="hpa", seed=0, **options):
    """A run with all that a report may read: categories, clusters, images, references, one judgement that failed."""
    run = write_run(root, method, seed, categories=True, shuffle=True, **options)
    write_updates(run, common=(3, 1))
    write_forms(run)
    write_thumbnails(run, Image.new("RGB", (48, 48), "red"))
    write_references(run, "keyword", SAFETY[0], ["refused"] * 3 + ["not_refused"])
    targets = {row["id"]: row["target"] for row in run.stage(0).responses(SAFETY[0])}
    for stage in run.finished_stages():
        folder = stage.path / "responses"
        answered = [row | {"target": targets[row["id"]]} for row in stage.responses(SAFETY[0])]
        write_jsonl(folder / f"{SAFETY[0]}.jsonl", answered)
        rows = stage.responses(SAFETY[1])
        clustered = [row | ({"cluster": row["id"][-2:]} if row["id"] > "toy_unsafe_text-010" else {}) for row in rows]
        write_jsonl(folder / f"{SAFETY[1]}.jsonl", clustered)
        (stage.path / "judgements" / "toy_compliance" / f"{BENIGN[0]}.jsonl").unlink()
        stage.write_missing_judgement("toy_compliance", BENIGN[0], "It was out of reach.")
        stage.write_judgements("late", SAFETY[0], {row["id"]: "safe" for row in stage.responses(SAFETY[0])})
        stage.write_can_say("late", {"safe": False, "unsafe": True})
    return run


def numbers(measures):
    return {key: (one.value, one.n, one.yes_no, one.deviations.tolist()) for key, one in measures.items()}


def test_a_published_run_says_what_its_folder_says(tmp_path):
    run = full_run(tmp_path / "runs")
    (made,) = out_of([run], tmp_path / "out", show_unsafe=True)

    there, here = Run(PublishedRun(made.path)), Run(run)
    assert there.manifest.said() == here.manifest.said() and there.missing == ""
    assert numbers(there.measures) == numbers(here.measures) and numbers(there.details) == numbers(here.details)
    assert numbers(there.calibration) == numbers(here.calibration) and here.calibration
    assert there.judges == here.judges and there.vocabularies == here.vocabularies
    for stage, (one, two) in enumerate(zip(there.stages, here.stages, strict=True)):
        assert one.cost == two.cost
        assert one.missing_judgement("toy_compliance", BENIGN[0]) == "It was out of reach."
        for name in [*TASKS, *SAFETY, *BENIGN]:
            assert one.responses(name) == sorted(two.responses(name), key=lambda row: row["id"])
            assert there.source.digest(stage, name) == here.source.digest(stage, name)
    assert np.array_equal(there.data[0].clusters[SAFETY[1]], here.data[0].clusters[SAFETY[1]])
    assert {name: there.source.thumbnails(name) for name in TASKS} == {name: run.thumbnails(name) for name in TASKS}


@pytest.mark.slow
def test_a_report_of_published_runs_is_the_report_of_their_folders(tmp_path):
    runs = [full_run(tmp_path / "runs", method, seed) for method in ("seqft", "hpa") for seed in (0, 1)]
    out_of(runs, tmp_path / "out", show_unsafe=True)

    first = report_of(runs, tmp_path / "first").parent
    second = report_of(find_published(tmp_path / "out"), tmp_path / "second").parent
    written = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert [str(path) for path in written if without_samples(first / path) != without_samples(second / path)] == []
    assert report_of(find_published(tmp_path / "out")[1:], tmp_path / "third"), "without the texts of one run"


def without_samples(path):
    """Return a report's file; the page without its samples, of which published runs keep those of one seed."""
    return re.sub(rb'id="samples-data">.*?</script>', b"", path.read_bytes(), flags=re.DOTALL)


def test_load_runs_and_find_results_read_both(tmp_path):
    runs = [write_run(tmp_path / "runs", "seqft"), write_run(tmp_path / "runs", "hpa")]
    (made,) = out_of(runs[:1], tmp_path / "out")

    assert load_runs(tmp_path / "out").drop(columns="run").equals(load_runs(runs[0].path).drop(columns="run"))
    found = read_runs(find_results([runs[1].path, tmp_path / "out", made.path, tmp_path / "out" / "results"]))
    assert [run.label for run in found] == ["hpa", "seqft"]
    with pytest.raises(UserError, match="No run in"):
        find_results([tmp_path / "out", tmp_path / "nowhere"])


def test_a_file_without_the_column_of_forms_is_read(tmp_path):
    run = full_run(tmp_path / "runs")
    (made,) = out_of([run], tmp_path / "out")
    pq.write_table(pq.read_table(made.path).drop_columns("in_form"), made.path)

    there, here = Run(PublishedRun(made.path)), Run(run)
    form = {key for key in here.measures if key.series.metric in ("in_form", "mif")}
    assert len(form) == 3 * (1 + len(TASKS)) and here.measures.keys() - there.measures.keys() == form


def test_responses_are_kept_of_seed_0_and_of_safety_sets_on_demand(tmp_path):
    runs = [write_run(tmp_path / "runs", seed=seed) for seed in (0, 1)]
    first, second = (PublishedRun(made.path) for made in out_of(runs, tmp_path / "out"))

    assert first.has_texts and not second.has_texts
    assert first.value("responses", 3, TASKS[0]) and first.value("responses", 3, SAFETY[0]) is None
    assert second.stages[3].responses(TASKS[0])[0]["response"] is None
    assert {sample.get("prompt") for sample in first.samples[SAFETY[0]]} == {None}
    text = "".join(str(pq.read_table(path).to_pylist()) for path in (tmp_path / "out").rglob("*.parquet"))
    assert "I cannot help." in text, "of the benign set"
    assert "Sure, 2." in PublishedRun(out_of(runs, tmp_path / "all", show_unsafe=True)[0].path).value(
        "responses", 3, SAFETY[0]
    )


def test_no_path_of_this_machine_is_published(tmp_path):
    values = {"suite_config": {"model": "/home/me/models/second"}, "changed": {"model": "/home/me/models/second"}}
    run = write_run(tmp_path / "runs", manifest=values)
    (made,) = out_of([run], tmp_path / "out")

    assert "/home/me" not in str(pq.read_table(made.path).to_pylist())
    assert PublishedRun(made.path).manifest.suite_config == {"model": "second"}
    rewrite_manifest(run, suite_config={"model": "/elsewhere/second"})
    assert run_name(run.manifest.compared()) == str(made.path.relative_to(tmp_path / "out" / "results"))


def test_seeds_settings_and_noise_have_files_of_their_own():
    about = {"suite": "toy", "suite_config": {"version": 1}, "method": "hpa", "config": {"p": 1}, "harmful_ratio": 0.0}
    name = run_name(about | {"seed": 3})

    assert name.startswith("hpa-") and name.endswith("/seed3.parquet")
    assert run_name(about | {"seed": 3, "noise": 2}) == name.replace("seed3", "seed3-noise2")
    others = [{"config": {"p": 2}}, {"harmful_ratio": 0.1}, {"suite_config": {"version": 2}}]
    assert len({name, *(run_name(about | {"seed": 3} | other) for other in others)}) == 4


def test_a_torn_file_and_lost_samples_are_one_sentence(tmp_path):
    (made,) = out_of([write_run(tmp_path / "runs")], tmp_path / "out")
    whole = made.path.read_bytes()
    made.path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"seed0.parquet is not whole .*: bring it back as it was published.") as caught:
        PublishedRun(made.path)
    assert "\n" not in str(caught.value)

    made.path.write_bytes(whole)
    published._read_samples.cache_clear()
    next((tmp_path / "out" / "results").glob("samples-*")).unlink()
    with pytest.raises(UserError, match="samples-.*.parquet is missing, which the runs beside it were tested on"):
        PublishedRun(made.path).read(0)
