"""What stands in the place of a number that a run does not have."""

import pytest

from hpa_bench.results.absence import absence, uncalibrated
from hpa_bench.results.measures import ALL, Key, Series
from hpa_bench.results.runs import read_runs
from tests.support.run_folders import BENIGN, SAFETY, TASKS, write_references, write_run


def one(*folders):
    (run,) = read_runs(folders)
    return run


def final(metric, kind="task", name=ALL, judge="", stage=3):
    return Key(stage, Series(name, kind, judge, metric))


def test_what_does_not_exist_is_a_dash(tmp_path):
    run, joint = one(write_run(tmp_path)), one(write_run(tmp_path, "joint", stages=[TASKS]))

    assert absence(run, final("ap", stage=4)) == "-"
    assert absence(joint, final("bwt", stage=1)) == "-"
    assert absence(run, final("told", "safety", SAFETY[0], "keyword")) == "-"


def test_a_stage_that_did_not_finish_says_why(tmp_path):
    folder = write_run(tmp_path, finished=1)
    (folder.path / "FAILED").write_text("The loss is NaN at step 3.")
    run = one(folder)

    for key in (final("ap"), final("masr", "safety", judge="keyword"), final("accuracy", name=TASKS[0], stage=2)):
        assert absence(run, key) == "missing: stopped after stage 1 of 3: The loss is NaN at step 3."
    assert absence(one(write_run(tmp_path, "ewc", finished=-1)), final("ap")) == "missing: no stage finished"


@pytest.mark.parametrize("stage", [0, 3])
def test_a_set_that_one_judge_did_not_see_is_missing_for_that_judge_alone(tmp_path, stage):
    folder = write_run(tmp_path)
    for name in (SAFETY[1], *BENIGN):
        (folder.stage(stage).path / "judgements" / "keyword" / f"{name}.jsonl").unlink()
    run = one(folder)

    missing = "missing: not judged by keyword"
    asked = {
        final("masr", "safety", judge="keyword", stage=stage): missing,
        final("asr", "safety", SAFETY[1], "keyword", stage): missing,
        final("asr", "safety", SAFETY[0], "keyword", stage): "-",
        final("over_refusal", "benign", judge="keyword", stage=stage): missing,
        final("masr", "safety", judge="toy_compliance", stage=stage): "-",
        final("kappa", "safety", judge="keyword vs toy_compliance", stage=stage): missing,
    }
    assert {key: absence(run, key) for key in asked} == asked
    change = "missing: stage 0 not judged by keyword" if stage == 0 else missing
    assert absence(run, final("dasr", "safety", judge="keyword")) == change


def test_reference_answers_that_are_not_judged_are_told_from_those_that_do_not_exist(tmp_path):
    folder = write_run(tmp_path)
    write_references(folder, "keyword", SAFETY[0], ["refused"] * 3)
    run = one(folder)

    asr = Series(SAFETY[0], "safety", "toy_compliance", "asr")
    assert uncalibrated(run, asr) == "missing: reference answers not judged by toy_compliance"
    assert uncalibrated(run, asr._replace(set=SAFETY[1])) == "no reference answers"
    assert uncalibrated(run, asr._replace(judge="keyword")) == "-"
    assert uncalibrated(one(write_run(tmp_path, "ewc", finished=-1)), asr) == "no reference answers"
