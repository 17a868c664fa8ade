"""Conclusions under other kernels, and methods on other checkpoints."""

import pytest

from hpa_bench.report.conditions import conditions
from hpa_bench.report.robustness import checkpoints, kendall_tau, kernel_rows, kernel_sets
from hpa_bench.results.runs import read_runs
from tests.support.reports import Visible, report_of, table
from tests.support.run_folders import TASKS, write_run

PINNED = {"numerics": {"device": "cpu", "cpu_capability": "AVX2"}, "suite_config": {"numerics": "portable"}}
FREE = {"numerics": {"device": "cpu", "cpu_capability": "AVX512"}, "suite_config": {"numerics": "native"}}


def made(root, manifest, unsafe, seeds=range(3), **options):
    return [
        write_run(root, method, seed, unsafe=share, manifest=manifest, **options)
        for method, share in unsafe.items()
        for seed in seeds
    ]


def two_kernel_sets(root):
    pinned = made(root / "a", PINNED, {"hpa": 0.1, "seqft": 0.9, "l2": 0.1, "ewc": 0.5}, range(4))
    pinned += made(root / "a", PINNED, {"zero_shot": 0.1}, stages=[])
    return pinned + made(root / "b", FREE, {"hpa": 0.1, "seqft": 0.9, "l2": 0.9})


@pytest.mark.slow
def test_conclusions_are_compared_over_what_both_kernel_sets_have(tmp_path):
    (found,) = kernel_sets(conditions(read_runs(two_kernel_sets(tmp_path))))

    assert {one.label for one in found.conclusions} == {"seqft", "l2"}
    assert {cell.seeds for one in found.conclusions for cell in one.cells} == {3}
    by_number = {(one.label, one.series.metric): one for one in found.conclusions}
    assert by_number["seqft", "masr"].signs == (-1, -1) and by_number["seqft", "masr"].agrees
    assert by_number["l2", "masr"].signs == (0, -1) and not by_number["l2", "masr"].agrees
    assert set(by_number) == {(label, metric) for label in ("seqft", "l2") for metric in ("ap", "bwt", "masr")}


def test_without_hpa_there_is_no_conclusion(tmp_path):
    runs = made(tmp_path / "a", PINNED, {"seqft": 0.5, "l2": 0.1}, [0])
    runs += made(tmp_path / "b", FREE, {"seqft": 0.5, "l2": 0.1}, [0])

    assert kernel_sets(conditions(read_runs(runs))) == []


def test_other_data_are_no_kernel_set(tmp_path):
    runs = made(tmp_path / "a", PINNED, {"hpa": 0.1, "seqft": 0.5}, [0])
    runs += made(tmp_path / "b", FREE, {"hpa": 0.1, "seqft": 0.5}, [0], tasks=TASKS[::-1])

    assert kernel_sets(conditions(read_runs(runs))) == []


def test_rankings_are_compared_by_pairs():
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert kendall_tau([1, 2, 3], [1, 1, 2]) == pytest.approx(2 / 3)


def on_checkpoint(root, name, digest, unsafe):
    about = {"model_digest": digest * 64, "suite_config": {"model": f"./{name}"}}
    runs = made(root / name / digest, about, unsafe, [0])
    return [*runs, *made(root / name / digest, about, {"zero_shot": 0.0}, [0], stages=[])]


def test_methods_stand_side_by_side_over_checkpoints(tmp_path):
    runs = on_checkpoint(tmp_path, "aligned", "a", {"hpa": 0.1, "seqft": 0.9, "l2": 0.4})
    runs += on_checkpoint(tmp_path, "aligned-2", "b", {"hpa": 0.1, "seqft": 0.9})
    listed = conditions(read_runs(runs))

    (found,) = checkpoints(listed)

    assert [condition.short for condition in listed][1:] == ["model ./aligned-2"]
    assert found.names == ["aligned", "aligned-2"]
    assert [label for label, _ in found.rows] == ["zero_shot", "seqft", "hpa"]
    assert [series.metric for series in found.columns] == ["ap", "bwt", "masr"]
    assert found.agreement[2] == (1.0, 2)


def test_checkpoints_are_compared_over_the_seeds_that_all_have(tmp_path):
    first, second = ({"model_digest": digit * 64, "suite_config": {"model": f"./{digit}"}} for digit in "12")
    runs = made(tmp_path / "1", first, {"hpa": 0.1, "ewc": 0.5}, range(3))
    runs += made(tmp_path / "2", second, {"hpa": 0.1}, range(2))
    runs += made(tmp_path / "2", second, {"ewc": 0.5}, [0], finished=1)
    runs += made(tmp_path / "1", first, {"l2": 0.4}, [0]) + made(tmp_path / "2", second, {"l2": 0.4}, [1])

    (found,) = checkpoints(conditions(read_runs(runs)))

    rows = dict(found.rows)
    assert [[cell.seeds for cell in cells] for cells in rows["hpa"]] == [[2, 2, 2]] * 2
    assert [cell.seeds for cell in rows["ewc"][0]] == [3, 3, 3]
    assert {*rows["ewc"][1]} == {"missing: stopped after stage 1 of 3"}
    assert rows["l2"] == [["missing: no seed in common"] * 3] * 2
    assert found.agreement == [None, None, None]


def test_checkpoints_of_one_name_are_told_apart(tmp_path):
    runs = on_checkpoint(tmp_path, "aligned", "a", {"hpa": 0.1, "seqft": 0.9})
    runs += on_checkpoint(tmp_path, "aligned", "b", {"hpa": 0.1, "seqft": 0.9})
    listed = conditions(read_runs(runs))

    assert [condition.title for condition in listed] == [f"toy version 1; checkpoint {digest * 8}" for digest in "ab"]
    assert checkpoints(listed)[0].names == ["aaaaaaaa", "bbbbbbbb"]


def test_orders_are_no_checkpoints(tmp_path):
    runs = [write_run(tmp_path / "a", "hpa"), write_run(tmp_path / "b", "hpa", tasks=TASKS[::-1])]

    assert checkpoints(conditions(read_runs(runs))) == []


@pytest.mark.slow
def test_the_page_says_what_survives(tmp_path):
    runs = two_kernel_sets(tmp_path / "runs")
    page = report_of(runs, tmp_path / "report")

    text = Visible(page).text
    disagreeing = [row for row in table(page, "kernel_sets") if row["agree"] == "no"]
    assert "Of 6 conclusions" in text and f"{6 - len(disagreeing)} are the same" in text
    assert ("l2", "masr") in {(row["method"], row["metric"]) for row in disagreeing}
    assert {row["conclusion"] for row in disagreeing if row["metric"] == "masr"} == {"not separated"}
    assert "Does it depend on the checkpoint" not in text

    runs = on_checkpoint(tmp_path / "models", "aligned", "a", {"hpa": 0.1, "seqft": 0.9})
    runs += on_checkpoint(tmp_path / "models", "aligned-2", "b", {"hpa": 0.1, "seqft": 0.9})
    text = Visible(report_of(runs, tmp_path / "models-report")).text
    assert "The same methods on 2 aligned checkpoints" in text and "Kendall’s τ" in text
    assert kernel_rows(kernel_sets(conditions(read_runs(runs)))) == []
