"""Which runs stand together, and under which titles."""

import pytest

from hpa_bench.errors import UserError
from hpa_bench.files import write_jsonl
from hpa_bench.report.conditions import conditions
from hpa_bench.report.tables import code
from hpa_bench.results.manifest import Manifest
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import read_runs
from tests.support.reports import Visible, report_of, table
from tests.support.run_folders import TASKS, write_run


@pytest.mark.slow
def test_conditions_are_never_averaged(tmp_path):
    runs = [write_run(tmp_path / "a", "hpa"), write_run(tmp_path / "b", "hpa", harmful_ratio=0.001)]
    runs.append(write_run(tmp_path / "c", "hpa", tasks=TASKS[::-1]))

    page = report_of(runs, tmp_path / "report")

    titles = {row["condition"] for row in table(page, "results")}
    assert titles == {
        "toy version 1; original data; order ad, digits, caption",
        "toy version 1; 0.1% harmful data; order ad, digits, caption",
        "toy version 1; original data; order caption, digits, ad",
    }
    assert {row["seeds"] for row in table(page, "results")} <= {"0", "1"}
    seen = Visible(page)
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_runs_that_cannot_stand_together_are_refused(tmp_path):
    first = write_run(tmp_path / "a")
    with pytest.raises(UserError, match="both hpa with seed 0: give one of them"):
        report_of([first, write_run(tmp_path / "b")], tmp_path / "report")
    with pytest.raises(UserError, match="different samples of 'toy_ad' .40 and 20.: report them separately"):
        report_of([first, write_run(tmp_path / "c", "seqft", n=20)], tmp_path / "report")
    with pytest.raises(UserError, match="No runs"):
        report_of([], tmp_path / "report")


def test_runs_that_say_differently_what_belongs_together_are_refused(tmp_path):
    runs = [write_run(tmp_path, method) for method in ("seqft", "hpa")]
    for stage in runs[1].finished_stages():
        rows = [row | {"cluster": row["id"][-1]} for row in stage.responses(TASKS[0])]
        write_jsonl(stage.path / "responses" / f"{TASKS[0]}.jsonl", rows)

    with pytest.raises(
        UserError, match="seqft-.*seed0 and .*hpa-.*seed0 say differently which samples of 'toy_ad' belong"
    ):
        conditions(read_runs(runs))


def test_what_changes_no_weight_makes_no_other_condition(tmp_path):
    recipe = {"learning_rate": 0.001, "save_steps": 500, "workers": None, "gradient_checkpointing": False}
    recipe |= {"keep_weights": False}
    changes = [{}, {"save_steps": 5}, {"workers": 2}, {"gradient_checkpointing": True}, {"keep_weights": True}]
    runs = [
        write_run(tmp_path, "hpa", seed, manifest={"training": recipe | changed, "suite_config": {"training": {}}})
        for seed, changed in enumerate(changes)
    ]
    (found,) = conditions(read_runs(runs))

    assert [group.seeds for group in found.groups] == ["5"]


def test_a_run_that_failed_before_it_began_is_a_missing_seed_of_its_method(tmp_path):
    machine = {"numerics": {"device": "cpu", "threads": 1}, "model_digest": "1" * 64}
    runs = []
    for model in ("./aligned", "./other"):
        about = machine | {"suite_config": {"model": model}}
        runs += [write_run(tmp_path / model, "hpa", seed, manifest=about, finished=0) for seed in (0, 1)]
    known = {key: value for key, value in runs[-1].manifest.said().items() if key not in machine}
    failed = RunFolder(tmp_path / "failed")
    failed.record_failure(Manifest(**known | {"method": "hpa", "seed": 2, "git_commit": None}), "no such model.")

    other, aligned = conditions(read_runs([failed, *runs]))

    assert (other.title, aligned.title) == ("toy version 1; model ./other", "toy version 1; model ./aligned")
    assert [group.seeds for group in (*other.groups, *aligned.groups)] == ["0 of 3", "0 of 2"]
    assert other.runs[-1].missing == "no stage finished: no such model."
    assert other.about["model_digest"] == "1" * 64 and "unknown" not in code(other)


def test_conditions_are_never_of_one_title(tmp_path):
    runs = []
    for rate in (0.001, 0.01):
        recipe = {"training": {"learning_rate": rate, "batch_size": 16}}
        runs.append(write_run(tmp_path / str(rate), "hpa", manifest=recipe | {"suite_config": recipe}))

    titles = [found.title for found in conditions(read_runs(runs))]

    assert titles == ["toy version 1; training.learning_rate 0.001", "toy version 1; training.learning_rate 0.01"]
