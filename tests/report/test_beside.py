"""Which published runs stand beside one's own, and in what others differ, in one sentence."""

import pytest

from hpa_bench.errors import UserError
from hpa_bench.report.beside import beside, main_condition, others
from hpa_bench.results.runs import read_runs
from tests.support.run_folders import TASKS, toy_manifest, write_run

KNOWN = {
    "suite_config": {"version": 2, "model": "./aligned"},
    "numerics": {"device": "cpu", "threads": 1, "cpu_capability": "AVX2"},
    "data": dict.fromkeys(TASKS, "1" * 64),
    "model_digest": "2" * 64,
}


def published_runs(root):
    runs = [
        write_run(root / "published", method, seed, manifest=KNOWN) for method in ("seqft", "hpa") for seed in (0, 1)
    ]
    runs.append(write_run(root / "published", "hpa", harmful_ratio=0.01, config={"a": 1}, manifest=KNOWN))
    return read_runs(runs)


def own(root, **changes):
    (run,) = read_runs([write_run(root / "own", "mine", manifest=KNOWN | changes)])
    return run.manifest


def test_all_of_the_same_condition_stand_beside_and_no_other(tmp_path):
    published = published_runs(tmp_path)

    found = beside([own(tmp_path)], published)

    assert [(run.label, run.seed) for run in found] == [("seqft", 0), ("seqft", 1), ("hpa", 0), ("hpa", 1)]
    assert main_condition(published) == found
    assert [run.seed for run in others(found, [found[0].manifest])] == [1, 0, 1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"suite": "other"}, "suite is 'toy' there and 'other' here"),
        ({"suite_config": KNOWN["suite_config"] | {"version": 3}}, "version is 2 there and 3 here"),
        (
            {"numerics": KNOWN["numerics"] | {"cpu_capability": "AVX512"}},
            "numerics.cpu_capability is 'AVX2' there and 'AVX512' here",
        ),
        ({"data": KNOWN["data"] | {TASKS[1]: "3" * 64}}, f"the data of '{TASKS[1]}' are others there than here"),
        ({"model_digest": "3" * 64}, "the files of the model that they start from are others there than here"),
        ({"training": {"learning_rate": 0.5, "epochs": 1}}, "training.learning_rate is 0.001 there and 0.5 here"),
    ],
)
def test_what_differs_is_told(changes, reason, tmp_path):
    with pytest.raises(UserError) as caught:
        beside([own(tmp_path, **changes)], published_runs(tmp_path))

    assert str(caught.value) == f"mine, seed 0, cannot stand beside the published runs: {reason}."


def test_of_a_planned_run_only_what_is_known_is_compared(tmp_path):
    about = own(tmp_path).said()
    planned = toy_manifest(**{key: about[key] for key in about.keys() - {"numerics", "data", "model_digest"}})

    published = published_runs(tmp_path)
    assert len(beside([planned], published)) == 4
    same = planned.model_copy(update={"method": "hpa", "config": {}})
    assert len(others(published, [same])) == len(published) - 1
    other = planned.model_copy(update={"suite_config": {"version": 1, "model": "./aligned"}})
    with pytest.raises(UserError, match="version is 2 there and 1 here"):
        beside([other], published)


def test_nothing_published_is_said(tmp_path):
    with pytest.raises(UserError, match="There is no published run to stand beside"):
        beside([own(tmp_path)], [])
