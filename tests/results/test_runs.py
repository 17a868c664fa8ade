"""Results read from run folders, against numbers recomputed from the files in the plainest way."""

import json

import numpy as np
import pytest

from hpa_bench.errors import UserError
from hpa_bench.files import read_jsonl, write_jsonl
from hpa_bench.metrics import continual_metrics
from hpa_bench.results.absence import absence
from hpa_bench.results.measures import Key, Series
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import Run, load_runs, read_runs, stage_scores
from hpa_bench.results.statistics import wilson
from tests.support.run_folders import BENIGN, SAFETY, TASKS, write_run


def accuracy(run: RunFolder, stage: int, task: str) -> float:
    return float(100 * np.mean([row["score"] for row in run.stage(stage).responses(task)]))


def share(run: RunFolder, stage: int, judge: str, name: str, verdict: str) -> float:
    verdicts = list(run.stage(stage).judgements(judge, name).values())
    return 100 * sum(given == verdict for given in verdicts) / len(verdicts)


def value(frame, metric, stage=3, set="all", judge=""):
    rows = frame[(frame.metric == metric) & (frame.stage == stage) & (frame.set == set) & (frame.judge == judge)]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def test_values_equal_those_recomputed_from_the_files(tmp_path):
    run = write_run(tmp_path)

    frame = load_runs(tmp_path)

    expected = continual_metrics([[accuracy(run, stage, task) for task in TASKS] for stage in range(4)])
    for metric, number in expected.items():
        assert value(frame, metric).value == pytest.approx(number)
    for judge in ("keyword", "toy_compliance"):
        asr = [[100 - share(run, stage, judge, name, "refused") for name in SAFETY] for stage in (0, 3)]
        assert value(frame, "asr", set=SAFETY[1], judge=judge).value == pytest.approx(asr[1][1])
        assert value(frame, "masr", judge=judge).value == pytest.approx(np.mean(asr[1]))
        assert value(frame, "dasr", judge=judge).value == pytest.approx(np.mean(asr[1]) - np.mean(asr[0]))
        assert value(frame, "dasr", stage=0, judge=judge).value == 0
        refused = share(run, 3, judge, BENIGN[0], "refused")
        assert value(frame, "over_refusal", set=BENIGN[0], judge=judge).value == pytest.approx(refused)
    complied = share(run, 3, "toy_compliance", SAFETY[0], "complied")
    assert value(frame, "complied", set=SAFETY[0], judge="toy_compliance").value == pytest.approx(complied)
    assert frame[(frame.metric == "complied") & (frame.judge == "keyword")].empty


def test_not_refused_is_complied_or_neither_or_empty(tmp_path):
    write_run(tmp_path)

    frame = load_runs(tmp_path)

    parts = [
        value(frame, metric, set=SAFETY[0], judge="toy_compliance").value for metric in ("complied", "neither", "empty")
    ]
    assert value(frame, "asr", set=SAFETY[0], judge="toy_compliance").value == pytest.approx(sum(parts))


def test_safe_unsafe_and_incoherent_add_up(tmp_path):
    run = write_run(tmp_path, unsafe=0.8)

    frame = load_runs(tmp_path)

    for name in (SAFETY[0], "all"):
        incoherent = value(frame, "incoherent", set=name) if name != "all" else safety(frame, "incoherent")
        for judge in ("keyword", "toy_compliance"):
            parts = [value(frame, metric, set=name, judge=judge).value for metric in ("safe", "unsafe")]
            assert sum(parts) + incoherent.value == pytest.approx(100)
    empty = [row["response"] == "" for row in run.stage(3).responses(SAFETY[0])]
    assert any(empty) and value(frame, "incoherent", set=SAFETY[0]).value == pytest.approx(100 * np.mean(empty))


def safety(frame, metric):
    return value(frame[frame.kind == "safety"], metric)


def test_a_refusal_that_loops_is_no_attack_success_and_not_safe(tmp_path):
    write_run(tmp_path, unsafe=-1, response="I cannot help with that. " * 20)

    frame = load_runs(tmp_path)

    metrics = {
        metric: value(frame, metric, set=SAFETY[0], judge="keyword").value for metric in ("asr", "safe", "unsafe")
    }
    assert metrics == {"asr": 0, "safe": 0, "unsafe": 0}
    assert value(frame, "incoherent", set=SAFETY[0]).value == 100
    assert value(frame, "incoherent", set=BENIGN[0]).value == 100


def test_rates_have_wilson_intervals_and_means_their_own(tmp_path):
    write_run(tmp_path, n=40)

    frame = load_runs(tmp_path)

    asr = value(frame, "asr", set=SAFETY[0], judge="keyword")
    assert (asr.low / 100, asr.high / 100) == pytest.approx(wilson(round(asr.value * 40 / 100), 40))
    caption = value(frame, "accuracy", stage=0, set="toy_caption")
    assert caption.low < caption.value < caption.high
    assert (caption.low / 100, caption.high / 100) != pytest.approx(wilson(round(caption.value * 40 / 100), 40))
    ap = value(frame, "ap")
    assert ap.n == 120 and ap.low < ap.value < ap.high


def test_what_belongs_together_counts_once_in_an_interval(tmp_path):
    run = write_run(tmp_path, n=40)
    alone = value(load_runs(tmp_path), "asr", set=SAFETY[0], judge="keyword")
    for stage in run.finished_stages():
        rows = stage.responses(SAFETY[0])
        for index, row in enumerate(sorted(rows, key=lambda row: str(row["id"]))):
            row["cluster"] = f"question {index // 4}"
        write_jsonl(stage.path / "responses" / f"{SAFETY[0]}.jsonl", rows)

    found = value(load_runs(tmp_path), "asr", set=SAFETY[0], judge="keyword")

    assert (found.value, found.n) == (alone.value, alone.n) == (alone.value, 40)
    assert (found.low / 100, found.high / 100) == pytest.approx(wilson(round(found.value / 10), 10))


def test_a_run_in_which_all_is_refused_has_complied_with_nothing(tmp_path):
    run = write_run(tmp_path, unsafe=-1, benign_sets=())
    assert set(run.stage(3).judgements("toy_compliance", SAFETY[0]).values()) == {"refused"}

    frame = load_runs(tmp_path)

    assert value(frame, "complied", set=SAFETY[0], judge="toy_compliance").value == 0


def test_frame_has_the_documented_columns_and_no_gaps(tmp_path):
    write_run(tmp_path, seed=1)

    frame = load_runs([tmp_path])

    columns = (
        "suite version order harmful_ratio method label seed noise run missing stage set kind judge metric value n low"
        " high"
    )
    assert " ".join(frame.columns) == columns
    assert not frame.isna().any().any()
    assert set(frame.seed) == {1} and set(frame.kind) == {"task", "safety", "benign"}
    assert (frame.low <= frame.value + 1e-4).all() and (frame.value <= frame.high + 1e-4).all()


def test_joint_and_zero_shot_have_what_is_defined_for_them(tmp_path):
    joint = write_run(tmp_path, "joint", stages=[TASKS])
    write_run(tmp_path, "zero_shot", stages=[])

    frame = load_runs(tmp_path)

    continual = frame[frame.metric.isin(["ap", "mfn", "bwt", "bwt_over_t", "mft", "maa", "forgetting", "fwt"])]
    assert set(continual.metric) == {"ap", "mfn"}
    last = frame[frame.method == "joint"]
    assert value(last, "ap", stage=1).value == pytest.approx(np.mean([accuracy(joint, 1, task) for task in TASKS]))
    zero_shot = frame[frame.method == "zero_shot"]
    assert value(zero_shot, "ap", stage=0).value == pytest.approx(np.mean([accuracy(joint, 0, t) for t in TASKS]))
    assert value(zero_shot, "dasr", stage=0, judge="keyword").value == 0


def test_unfinished_run_says_why_and_has_no_final_numbers(tmp_path):
    run = write_run(tmp_path, finished=2)
    (run.path / "FAILED").write_text("The loss is NaN\nat step 12 of toy_caption.")

    frame = load_runs(tmp_path)

    assert set(frame.missing) == {"stopped after stage 2 of 3: The loss is NaN at step 12 of toy_caption."}
    assert frame.stage.max() == 2
    assert frame[frame.metric.isin(["ap", "bwt"])].empty


def test_a_live_run_is_in_progress(tmp_path):
    run, begun = write_run(tmp_path, finished=2), write_run(tmp_path, seed=1, finished=-1)
    (run.path / "FAILED").write_text("of an earlier attempt")

    with run.locked(), begun.locked():
        live = read_runs([run, begun])
    assert [each.missing for each in live] == [
        "in progress, stage 2 of 3 finished",
        "in progress, no stage finished",
    ]
    assert [each.missing for each in read_runs([run, begun])] == [
        "stopped after stage 2 of 3: of an earlier attempt",
        "no stage finished",
    ]


def test_run_without_a_finished_stage_has_no_rows(tmp_path):
    write_run(tmp_path, finished=-1)

    assert load_runs(tmp_path).empty


def test_samples_are_joined_by_id(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", shuffle=True)

    one, two = load_runs(tmp_path / "a"), load_runs(tmp_path / "b")

    columns = ["stage", "set", "judge", "metric", "value", "n", "low", "high"]
    assert one[columns].equals(two[columns])


def test_scores_file_is_the_same_whatever_the_order_of_rows(tmp_path):
    one, two = write_run(tmp_path / "a"), write_run(tmp_path / "b", shuffle=True)

    rows = [json.dumps(stage_scores(run.stage(2), run.manifest, 2), allow_nan=False) for run in (one, two)]

    assert rows[0] == rows[1]


def test_stage_scores_equal_the_loaded_ones(tmp_path):
    run = write_run(tmp_path)
    frame = load_runs(tmp_path)

    rows = stage_scores(run.stage(2), run.manifest, 2)

    for row in rows:
        loaded = (
            value(frame, row["metric"], stage=2, set=row["set"], judge=row["judge"]) if row["set"] != "all" else None
        )
        if loaded is not None:
            assert (row["value"], row["n"]) == (pytest.approx(loaded.value, abs=1e-4), loaded.n)
            assert (row["low"], row["high"]) == pytest.approx((loaded.low, loaded.high), abs=1e-4)
    assert {(row["set"], row["judge"]) for row in rows if row["metric"] == "masr"} == {
        ("all", "keyword"),
        ("all", "toy_compliance"),
    }


def test_id_that_a_stage_lacks_is_named(tmp_path):
    run = write_run(tmp_path)
    path = run.stage(2).path / "responses" / "toy_ad.jsonl"
    write_jsonl(path, read_jsonl(path)[1:])

    with pytest.raises(UserError, match=r"stage2/responses/toy_ad.jsonl does not match stage 0: it lacks .*toy_ad-000"):
        load_runs(tmp_path)


def test_duplicate_id_is_named(tmp_path):
    run = write_run(tmp_path)
    path = run.stage(1).path / "responses" / "toy_ad.jsonl"
    write_jsonl(path, [*read_jsonl(path), read_jsonl(path)[0]])

    with pytest.raises(UserError, match=r"two responses with the id 'toy_ad-000'"):
        load_runs(tmp_path)


def test_set_that_a_judge_has_not_judged_leaves_its_numbers_out(tmp_path):
    run = write_run(tmp_path)
    (run.stage(3).path / "judgements" / "keyword" / f"{SAFETY[0]}.jsonl").unlink()

    frame = load_runs(tmp_path)

    last = frame[(frame.stage == 3) & (frame.judge == "keyword")]
    assert set(last[last.metric == "asr"].set) == {SAFETY[1]}
    assert last[last.metric.isin(["masr", "dasr"])].empty  # Never a mean over fewer sets than declared.


def test_a_change_since_a_stage_that_nobody_judged_says_so(tmp_path):
    run = write_run(tmp_path)
    (run.stage(0).path / "judgements" / "keyword" / f"{SAFETY[0]}.jsonl").unlink()

    found = Run(run)

    for metric, expected in (("masr", "-"), ("dasr", "missing: stage 0 not judged by keyword")):
        key = Key(3, Series("all", "safety", "keyword", metric))
        assert (key in found.measures) == (metric == "masr") and absence(found, key) == expected


def test_labels_show_what_differs_from_the_defaults(tmp_path):
    write_run(tmp_path, "random_columns", config={"match": "columns"})
    write_run(tmp_path, "random_columns", 1, config={"match": "columns"}, changed={"match": "columns"})
    write_run(tmp_path, "random_columns", config={"match": "norm"}, changed={"match": "norm", "training.epochs": 2})

    assert set(load_runs(tmp_path).label) == {"random_columns", "random_columns (match=norm)"}


def test_versions_of_a_method_with_other_defaults_stay_apart(tmp_path):
    write_run(tmp_path, config={"k": 1, "p": 2})
    write_run(tmp_path, config={"k": 1, "p": 3})

    assert set(load_runs(tmp_path).label) == {"hpa (p=2)", "hpa (p=3)"}
