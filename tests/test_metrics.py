"""Metrics against hand cases, identities and closed forms."""

import math

import numpy as np
import pytest

from hpa_bench import metrics
from hpa_bench.metrics import (
    accuracy_matrix,
    continual_metrics,
    continual_names,
    defined_metrics,
    run_metrics,
    scored_tasks,
)
from hpa_bench.results.runs import load_runs
from hpa_bench.verdict import EMPTY
from tests.support.run_folders import SAFETY, write_run

NAN = math.nan
TASKS = ["a", "b", "c"]
SEQUENCE = [["a"], ["b"], ["c"]]


def random_matrix(tasks: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 100, (tasks + 1, tasks))


def test_hand_case_of_two_tasks():
    found = continual_metrics([[10, 20], [80, NAN], [60, 90]])

    assert found == {
        "ap": 75,
        "bwt": -20,
        "bwt_over_t": -10,
        "mft": 85,
        "mfn": 75,
        "maa": 77.5,
        "forgetting": 20,
        "fwt": None,  # Task 2 was not tested before it was trained.
    }


def test_hand_case_of_three_tasks():
    found = continual_metrics([[10, 20, 30], [80, 26, 30], [85, 90, 40], [50, 70, 100]])

    assert found["bwt"] == pytest.approx(((50 - 80) + (70 - 90)) / 2)
    assert found["forgetting"] == pytest.approx(((85 - 50) + (90 - 70)) / 2)
    assert found["fwt"] == pytest.approx(((26 - 20) + (40 - 30)) / 2)
    assert found["maa"] == pytest.approx((80 + (85 + 90) / 2 + (50 + 70 + 100) / 3) / 3)


def test_coin_row_divides_by_t():
    tuned = [82.45, 49.99, 96.05, 56.40, 55.45, 31.27, 62.20, 57.08]
    final = [21.26, 28.74, 10.25, 36.78, 32.45, 0.83, 42.50, 57.08]
    matrix = np.full((9, 8), NAN)
    matrix[np.arange(1, 9), np.arange(8)] = tuned
    matrix[8] = final

    found = continual_metrics(matrix)

    assert found["bwt_over_t"] == pytest.approx(-32.62, abs=0.01)
    assert found["bwt"] == pytest.approx(-37.29, abs=0.01)


@pytest.mark.parametrize("tasks", [1, 2, 6, 8])
def test_identities(tasks):
    found = continual_metrics(random_matrix(tasks))

    assert found["mfn"] == found["ap"]
    assert found["bwt_over_t"] == pytest.approx(found["mfn"] - found["mft"])
    if tasks > 1:
        assert found["bwt_over_t"] == pytest.approx(found["bwt"] * (tasks - 1) / tasks)
        assert found["forgetting"] >= max(0, -found["bwt"]) - 1e-9


def test_scores_that_never_change_have_no_transfer():
    found = continual_metrics(np.tile([10.0, 50.0, 90.0], (4, 1)))

    assert (found["bwt"], found["bwt_over_t"], found["forgetting"], found["fwt"]) == (0, 0, 0, 0)


def test_one_task_has_no_transfer_to_measure():
    found = continual_metrics([[10], [80]])

    assert (found["ap"], found["mft"], found["bwt_over_t"]) == (80, 80, 0)
    assert found["bwt"] is None and found["forgetting"] is None and found["fwt"] is None


def test_joint_is_measured_at_the_ends_only():
    matrix = np.full((4, 3), NAN)
    matrix[0], matrix[-1] = 10, 80

    found = continual_metrics(matrix)

    assert {name for name, value in found.items() if value is not None} == {"ap", "mfn"}


@pytest.mark.parametrize("seed", range(20))
def test_never_nan_whatever_is_missing(seed):
    matrix = random_matrix(4, seed)
    matrix[np.random.default_rng(seed).random(matrix.shape) < 0.3] = NAN

    assert not any(value is not None and math.isnan(value) for value in continual_metrics(matrix).values())


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.zeros(3), np.zeros((1, 0)), [[0.0], [math.inf]]])
def test_wrong_matrices_are_refused(matrix):
    with pytest.raises(ValueError, match="R "):
        continual_metrics(matrix)


def test_stages_of_joint_and_zero_shot():
    scores = np.array([[1.0, 2, 3], [4, 5, 6]])

    joint = accuracy_matrix(scores, [TASKS], TASKS)
    zero_shot = accuracy_matrix(scores[:1], [], TASKS)

    np.testing.assert_array_equal(joint, [[1, 2, 3], [NAN] * 3, [NAN] * 3, [4, 5, 6]])
    np.testing.assert_array_equal(zero_shot, [[1, 2, 3], [NAN] * 3, [NAN] * 3, [1, 2, 3]])
    assert defined_metrics([TASKS], TASKS) == defined_metrics([], TASKS) == defined_metrics([], ["a"]) == {"ap", "mfn"}
    assert defined_metrics(SEQUENCE, TASKS) == set(continual_names())


def test_unfinished_run_has_no_final_row():
    matrix = accuracy_matrix(np.ones((3, 3)), SEQUENCE, TASKS)

    assert np.isnan(matrix[-1]).all() and not np.isnan(matrix[:-1]).any()


def test_columns_follow_the_order_of_training():
    scores = random_matrix(3)
    order = [2, 0, 1]

    shuffled = run_metrics(scores[:, order], SEQUENCE, [TASKS[i] for i in order])

    assert shuffled == run_metrics(scores, SEQUENCE, TASKS)


def test_batched_metrics_equal_single_ones():
    batch = np.stack([random_matrix(3, seed) for seed in range(5)])

    batched = run_metrics(batch, SEQUENCE, TASKS)

    for index, matrix in enumerate(batch):
        single = continual_metrics(matrix)
        assert all(batched[name][index] == pytest.approx(single[name]) for name in continual_names())


@pytest.mark.slow
def test_a_share_of_verdicts_that_is_declared_once_is_measured(tmp_path, monkeypatch):
    write_run(tmp_path, "hpa", unsafe=0.8)
    share = metrics.Share("told_apart", "Told apart", "", "", of=lambda answers: answers.verdicts != EMPTY)
    monkeypatch.setitem(metrics.METRICS, "told_apart", share)

    frame = load_runs(tmp_path)

    rows = frame[(frame.stage == 3) & (frame.set == SAFETY[0]) & (frame.judge == "toy_compliance")]
    by_metric = rows.set_index("metric").value
    assert by_metric["told_apart"] == pytest.approx(100 - by_metric["empty"]) and by_metric["empty"] > 0


@pytest.mark.parametrize(
    ("matrix", "scored"),
    [
        ("full", [TASKS] * 4),
        ("seen", [TASKS, TASKS[:1], TASKS[:2], TASKS]),
        ("diagonal", [TASKS, TASKS[:1], TASKS[1:2], TASKS]),
    ],
)
def test_how_much_of_the_matrix_is_measured(matrix, scored):
    assert [scored_tasks(matrix, stage, SEQUENCE, TASKS) for stage in range(4)] == scored
    assert scored_tasks(matrix, 1, [TASKS], TASKS) == scored_tasks(matrix, 0, [], TASKS) == TASKS


def test_what_each_matrix_defines():
    every = {*continual_names()}

    assert defined_metrics(SEQUENCE, TASKS, "seen") == every - {"fwt"}
    assert defined_metrics(SEQUENCE, TASKS, "diagonal") == {"ap", "mfn", "bwt", "bwt_over_t", "mft"}


def test_forgetting_needs_every_stage_since_a_task_was_learned():
    matrix = random_matrix(3)
    matrix[1, 1:] = matrix[2, 2:] = NAN
    assert continual_metrics(matrix)["forgetting"] is not None
    matrix[2, 0] = NAN

    assert continual_metrics(matrix)["forgetting"] is None
