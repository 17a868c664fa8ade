"""The numbers of a run's updates, from the records of its stages."""

import pytest

from hpa_bench.results.absence import absence
from hpa_bench.results.measures import Key, combine
from hpa_bench.results.run_folder import find_runs
from hpa_bench.results.runs import load_runs, read_runs
from hpa_bench.results.update import (
    Columns,
    StageUpdate,
    layer_overlaps,
    of_block,
    of_stage,
    read_update,
    update_measures,
    update_series,
)
from tests.support.run_folders import TASKS, toy_manifest, write_run, write_updates

MANIFEST = toy_manifest(tasks=["a", "b"], stages=[["a"], ["b"]])


def value(found, metric, stage=2, place="all"):
    measure = found.get(Key(stage, update_series(metric, place)))
    return None if measure is None else measure.value


def test_a_run_has_the_mean_over_its_stages():
    found = update_measures([StageUpdate(kept=0.9, kl=0.1), StageUpdate(kept=0.7, kl=0.3)], MANIFEST)

    assert value(found, "update_kept") == pytest.approx(80) and value(found, "update_kl") == pytest.approx(0.2)
    assert value(found, "update_kept", 1, of_stage(["a"])) == pytest.approx(90)
    assert value(found, "update_kl", 2, of_stage(["b"])) == pytest.approx(0.3)


def test_what_was_not_measured_in_every_stage_has_no_mean():
    for records in ([StageUpdate(kept=0.9, kl=0.1)], [StageUpdate(kept=0.9, kl=0.1), None], [None, None], []):
        assert value(update_measures(records, MANIFEST), "update_kl") is None
    unchanged = update_measures([StageUpdate(kept=None, kl=0.0), StageUpdate(kept=1.0, kl=0.0)], MANIFEST)
    assert value(unchanged, "update_kept") is None and value(unchanged, "update_kl") == 0


def test_a_run_without_a_stage_a_task_has_none():
    joint = toy_manifest(tasks=["a", "b"], stages=[["a", "b"]])

    assert update_measures([StageUpdate(kept=1.0, kl=0.0)], joint) == {}


def test_overlaps_are_pooled_over_layers_and_stages():
    one = [{"q": Columns(columns=10, kept=2, common=1)}, {"q": Columns(columns=10, kept=4, common=4)}]
    two = [{"q": Columns(columns=10, kept=2, common=2)}, {"q": Columns(columns=10, kept=0, common=0)}]

    found = update_measures([StageUpdate(kept=1.0, kl=0.0, blocks=blocks) for blocks in (one, two)], MANIFEST)

    assert value(found, "column_overlap") == pytest.approx(100 * 7 / 8)
    assert value(found, "column_overlap", place=of_block(0)) == pytest.approx(75)
    assert value(found, "chance_overlap", place=of_block(0)) == pytest.approx(20)
    assert value(found, "chance_overlap") == pytest.approx(100 * (4 / 10 + 16 / 10 + 4 / 10) / 8)


def test_overlaps_of_a_layer_are_pooled_over_stages_alone():
    one = [{"q": Columns(columns=10, kept=2, common=1), "v": Columns(columns=20, kept=4, common=4)}, {}]
    two = [{"q": Columns(columns=10, kept=4, common=4), "v": Columns(columns=20, kept=0, common=0)}, {}]
    records = [StageUpdate(kept=1.0, kl=0.0, blocks=blocks) for blocks in (one, two)]

    found = layer_overlaps(records, MANIFEST)

    shares = {place: (overlap.column_overlap.value, overlap.chance_overlap.value) for place, overlap in found.items()}
    assert shares == {(0, "q"): pytest.approx((100 * 5 / 6, 100 * 2 / 6)), (0, "v"): pytest.approx((100, 20))}
    assert layer_overlaps(records[:1], MANIFEST) == layer_overlaps([*records[:1], None], MANIFEST) == {}


def test_intervals_are_over_seeds_alone_and_not_limited_to_100():
    key = Key(2, update_series("update_kept"))
    seeds = [update_measures([StageUpdate(kept=kept, kl=0.0)] * 2, MANIFEST)[key] for kept in (1.1, 1.2, 1.3)]

    cell, alone = combine(key, seeds), combine(key, seeds[:1])

    # Student's t of 2 degrees of freedom.
    half = 4.302653 * 10 / 3**0.5
    assert (cell.low, cell.high) == (pytest.approx(120 - half), pytest.approx(120 + half)) and cell.has_interval
    assert alone.value == pytest.approx(110) and not alone.has_interval
    whole = combine(key, [update_measures([StageUpdate(kept=1.0, kl=0.0)] * 2, MANIFEST)[key]] * 3)
    assert (whole.low, whole.value, whole.high) == (100, 100, 100)


def test_what_has_none_says_why(tmp_path):
    old, joint, none = (
        write_run(tmp_path, "hpa"),
        write_run(tmp_path, "joint", stages=[TASKS]),
        write_run(tmp_path, "zero_shot", stages=[]),
    )
    unchanged, begun = write_run(tmp_path, "l2"), write_run(tmp_path, "ewc", finished=1)
    write_updates(unchanged, kept=None)
    reasons = {}
    for run in read_runs([old, joint, none, unchanged, begun]):
        assert Key(run.last, update_series("update_kept")) not in run.measures
        reasons[run.label] = absence(run, Key(run.last, update_series("update_kept")))

    assert reasons == {
        "hpa": "missing: not measured",
        "joint": "undefined: no stage trains one task alone",
        "zero_shot": "undefined: no stage trains one task alone",
        "l2": "undefined: training changed no weight",
        "ewc": "missing: stopped after stage 1 of 3",
    }


def test_a_table_of_runs_has_them_as_their_own_limits(tmp_path):
    folder = write_run(tmp_path)
    write_updates(folder, kept=0.5, kl=0.25)

    frame = load_runs(tmp_path)

    (row,) = frame[(frame["metric"] == "update_kl") & (frame["set"] == "all")].to_dict("records")
    assert row["value"] == 0.25 and row["n"] == 0 and row["low"] == row["high"] == 0.25
    assert len(list(find_runs([tmp_path]))) == 1


def test_a_later_version_may_say_more(tmp_path):
    folder = write_run(tmp_path)
    folder.stage(1).update_file.write_text('{"kept": 0.5, "kl": 0.25, "later": 1}')

    assert read_update(folder.stage(1)) == StageUpdate(kept=0.5, kl=0.25)
    assert read_update(folder.stage(2)) is None
