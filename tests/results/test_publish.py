"""Publishing: each run in one file that is written once, beside runs of its own kind alone."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from hpa_bench.errors import UserError
from hpa_bench.results.publish import publish
from hpa_bench.results.published import ABOUT, PublishedRun, find_published
from hpa_bench.results.runs import Run
from hpa_bench.results.source import FolderSource
from tests.support.published import out_of
from tests.support.run_folders import SAFETY, write_run


def test_the_same_run_twice_is_the_same_file(tmp_path):
    run = write_run(tmp_path / "runs")
    (first,) = out_of([run], tmp_path / "out")
    before = first.path.read_bytes()
    (again,) = out_of([run], tmp_path / "out")
    (elsewhere,) = out_of([run], tmp_path / "elsewhere")

    assert first.new and not again.new and again.path == first.path
    assert first.path.read_bytes() == before == elsewhere.path.read_bytes()


def test_an_added_judge_is_added(tmp_path):
    run = write_run(tmp_path / "runs")
    out_of([run], tmp_path / "out")
    for stage in run.finished_stages():
        stage.write_judgements("late", SAFETY[0], {row["id"]: "safe" for row in stage.responses(SAFETY[0])})
    (made,) = out_of([run], tmp_path / "out")

    assert made.new and "late" in Run(PublishedRun(made.path)).judges


def test_another_result_of_the_same_run_is_refused(tmp_path):
    run = write_run(tmp_path / "runs")
    (made,) = out_of([run], tmp_path / "out")
    before = made.path.read_bytes()
    other = write_run(tmp_path / "others", response="Something else.")

    with pytest.raises(
        UserError, match="same run as .* with other responses, the first of stage 0 to toy_ad: find out"
    ):
        publish(FolderSource(other), tmp_path / "out")
    assert made.path.read_bytes() == before


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"git_commit": "f" * 40},
            "was made with git_commit f{40}, and the runs in .* with 0123456789abcdef: publish it",
        ),
        ({"suite_config": {"version": 2}}, "suite_version 2, and the runs in .* with 1"),
        ({"numerics": {"threads": 2}}, "numerics {'native': {'threads': 2}}, and the runs in .* with {'native': None}"),
        ({"versions": {"torch": "3.0"}}, "versions {'torch': '3.0'}"),
        ({"suite": "other"}, "suite other"),
        ({"uncommitted": True}, "was made from code that no commit has"),
    ],
)
def test_runs_of_other_conditions_are_kept_apart(values, reason, tmp_path):
    out_of([write_run(tmp_path / "runs")], tmp_path / "out")
    other = write_run(tmp_path / "others", "seqft", manifest=values)

    with pytest.raises(UserError, match=reason):
        publish(FolderSource(other), tmp_path / "out")
    assert len(find_published(tmp_path / "out")) == 1


def test_numerics_that_a_suite_sets_otherwise_stand_in_one_folder(tmp_path):
    portable = {"suite_config": {"numerics": "portable"}, "numerics": {"cpu_capability": "AVX2"}}
    native = {"suite_config": {"numerics": "native"}, "numerics": {"cpu_capability": "AVX512"}}
    out_of([write_run(tmp_path / name, manifest=values) for name, values in (("a", portable), ("b", native))], tmp_path)

    about = json.loads((tmp_path / "results" / ABOUT).read_text())
    assert about["numerics"] == {"portable": {"cpu_capability": "AVX2"}, "native": {"cpu_capability": "AVX512"}}
    other = write_run(tmp_path / "c", seed=1, manifest=native | {"numerics": {"cpu_capability": "AVX2"}})
    with pytest.raises(UserError, match="numerics {'native': {'cpu_capability': 'AVX2'}}, and the runs .* 'AVX512'"):
        publish(FolderSource(other), tmp_path)


def test_an_engines_own_version_is_its_runs_alone(tmp_path):
    versions = {"torch": "2.0"}
    found = [versions, versions | {"vllm": "0.20"}, versions]
    runs = [write_run(tmp_path / "runs", seed=seed, manifest={"versions": each}) for seed, each in enumerate(found)]
    assert len(out_of(runs, tmp_path)) == 3

    assert json.loads((tmp_path / "results" / ABOUT).read_text())["versions"] == {"torch": "2.0", "vllm": "0.20"}
    other = write_run(tmp_path / "other", seed=3, manifest={"versions": versions | {"vllm": "0.21"}})
    with pytest.raises(UserError, match=r"versions .*'vllm': '0.21'}, and the runs in .* with .*'vllm': '0.20'}"):
        publish(FolderSource(other), tmp_path)


def test_what_is_not_finished_is_not_published(tmp_path):
    with pytest.raises(UserError, match="is not finished, so it cannot be published"):
        publish(FolderSource(write_run(tmp_path, finished=2)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_at_once(tmp_path):
    runs = [write_run(tmp_path / "runs", method, seed) for method in ("hpa", "seqft") for seed in range(4)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda run: publish(FolderSource(run), tmp_path / "out"), [*runs, *runs]))

    assert sum(one.new for one in made) == len(runs)
    assert [run.manifest.seed for run in find_published(tmp_path / "out")] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "out" / "results").iterdir() if path.is_file())[0] == ABOUT


def test_a_folder_of_a_later_format_is_refused(tmp_path):
    run = write_run(tmp_path / "runs")
    out_of([run], tmp_path / "out")
    about = tmp_path / "out" / "results" / ABOUT
    about.write_text(json.dumps(json.loads(about.read_text()) | {"format": 9}))

    with pytest.raises(UserError, match=r"published.json has format 9, and this version reads 1: update hpa-bench."):
        publish(FolderSource(run), tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert find_published(tmp_path / "out") == []
