"""Defaults and tuned side by side: which runs they are, what differs, and what is said where one is not there."""

import pytest

from hpa_bench.errors import UserError
from hpa_bench.report import figures, write_report
from hpa_bench.report.columns import headline
from hpa_bench.report.conditions import conditions
from hpa_bench.report.hub import dataset_card
from hpa_bench.report.markdown import tuned_table
from hpa_bench.report.tuned import against_rows, sides
from hpa_bench.results.measures import Cell
from hpa_bench.results.published import find_results
from hpa_bench.results.runs import read_runs
from hpa_bench.results.tuned import TUNED
from tests.support.noise import noise_run
from tests.support.published import publish_committed
from tests.support.reports import HPA, Visible, condition_of, printed, setting, table
from tests.support.run_folders import rewrite_manifest, write_run
from tests.support.tuned import method, trial, tuned


def of_hpa(**chosen):
    trials = [trial(60, 50), trial(70, 20, p_max=30.0), trial(40, 5, p_max=60.0)]
    return method(*trials, **chosen).model_copy(update={"config": HPA})


def runs(root):
    plain = [write_run(root, "seqft", seed) for seed in (0, 1)]
    default = [setting(root, seed) for seed in (0, 1)]
    return [*plain, *default, *(setting(root, seed, unsafe=0.05, p_max=30.0) for seed in (0, 1))]


@pytest.mark.slow
def test_each_side_is_the_runs_with_just_these_settings(tmp_path):
    listed = [*runs(tmp_path), setting(tmp_path, p_max=60.0), noise_run(tmp_path, 1)]

    default, chosen = sides(condition_of(listed, tuned(hpa=of_hpa(p_max=30.0), absent=method(s=2))))

    assert (default.group.label, chosen.group.label) == ("hpa", "hpa (p_max=30.0)")
    assert (default.setting, chosen.setting) == ("defaults", "tuned: p_max=30")
    assert default.differences is None
    for cell, one, other in zip(chosen.differences, chosen.cells, default.cells, strict=True):
        assert isinstance(cell.cell, Cell) and cell.cell.value == pytest.approx(one.value - other.value)


def test_methods_are_compared_each_as_its_trials_chose(tmp_path):
    listed = [*runs(tmp_path), *(write_run(tmp_path, "l2", seed, config={"s": 1.0}) for seed in (0, 1, 2))]
    said = tuned(hpa=of_hpa(p_max=30.0), l2=method())
    condition = condition_of(listed, said)

    rows = {row["metric"]: row for row in against_rows(condition)}

    chosen = next(group for group in condition.groups if group.label == "hpa (p_max=30.0)")
    other = next(group for group in condition.groups if group.method == "l2")
    for series in headline(condition):
        row, wanted = rows[series.metric], other.difference(chosen, series)
        assert (row["method"], row["reference"], row["seeds"]) == ("l2", "hpa", 2), "the seeds that both have"
        assert row["value"] == pytest.approx(wanted.value, abs=1e-4) and row["setting"].startswith("defaults, the best")
    assert len({side.is_chosen for side in sides(condition) if side.method == "l2"}) == 1
    assert against_rows(condition_of(runs(tmp_path / "again"), tuned(hpa=of_hpa()))) == []


def test_a_method_whose_defaults_were_best_stands_once(tmp_path):
    (side,) = sides(condition_of(runs(tmp_path), tuned(hpa=of_hpa())))

    assert side.setting == "defaults, the best of 3 trials"


def test_what_was_not_run_says_so(tmp_path):
    listed = [*runs(tmp_path), write_run(tmp_path, "l2", config={"s": 1.0})]

    *_, chosen = sides(condition_of(listed, tuned(hpa=of_hpa(p_max=30.0), l2=method(s=2.0))))

    assert chosen.group is None and set(chosen.cells) == {"missing: no run with these settings"}


def test_where_nothing_was_run_as_tuned_nothing_is_said(tmp_path):
    said = tuned(hpa=of_hpa(p_max=60.0))
    default = condition_of(runs(tmp_path), said)

    assert default.tuned == said and sides(default) == []
    assert tuned_table([default]).startswith("4 trials of each of 1 method")


def test_settings_are_tuned_for_one_recipe_whatever_the_machine(tmp_path):
    recipe = {"model": "./aligned", "training": {"learning_rate": 0.1}, "evaluation": {"split": "test"}}
    changes = [{}, {"numerics": "native"}, {"model": "./aligned-1"}, {"tasks": ["ad"]}]
    listed = [write_run(tmp_path / str(i), manifest={"suite_config": recipe | one}) for i, one in enumerate(changes)]
    said = tuned(hpa=of_hpa()).model_copy(
        update={"suite_config": recipe | {"numerics": "portable", "evaluation": {"split": "validation"}}}
    )

    found = conditions(read_runs(listed), said)

    assert [condition.tuned is said for condition in found] == [True, True, False, False]
    with pytest.raises(
        UserError, match=r"for other runs than these .model is './aligned' there and './aligned-1' here"
    ):
        conditions(read_runs(listed[2:]), said)


@pytest.mark.slow
def test_what_lies_beside_published_runs_is_read_with_them(tmp_path):
    for folder in ("toy", "other"):
        for run in runs(tmp_path / folder):
            rewrite_manifest(run, suite=folder)
            publish_committed(run, tmp_path / "reports" / folder)
        said = tuned(hpa=of_hpa(p_max=30.0)).model_copy(update={"suite": folder})
        said.write(tmp_path / "reports" / folder / TUNED)
    found = read_runs(find_results([tmp_path / "reports"]))

    page = write_report(found, tmp_path / "report")

    assert "p_max" not in (page.parent / "tables" / "main.md").read_text()
    assert {row["suite"] for row in table(page, "trials")} == {"toy", "other"}
    assert sum(row["setting"] == "tuned: p_max=30" for row in table(page, "tuned") if row["metric"] == "ap") == 2
    seen = Visible(page)
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and {"tuned", "2-tuned"} <= {*ids}
    assert (page.parent / "figures" / "2-trials.svg").exists()
    assert "p_max" not in str(dataset_card(found))
    assert " ".join(printed(found).split()).count("defaults and tuned, 4 trials a method") == 2


def test_validation_rows_are_another_condition(tmp_path):
    split = [
        write_run(tmp_path / name, manifest={"suite_config": {"evaluation": {"split": name}}})
        for name in ("test", "validation")
    ]

    found = conditions(read_runs(split))

    assert [part.title for part in found] == [f"toy version 1; evaluation.split {n}" for n in ("test", "validation")]
    assert [len(part.runs) for part in found] == [1, 1]


@pytest.mark.slow
def test_the_report_has_both_sides_the_budget_and_every_trial(tmp_path):
    found = read_runs(runs(tmp_path / "runs"))
    said = tuned(hpa=of_hpa(p_max=30.0))

    page = write_report(found, tmp_path / "report", tuned=said)

    text = Visible(page).text
    assert "4 trials of each of 1 method, one seed each, scored on validation rows" in text
    assert [row["settings"] for row in table(page, "trials")] == ["defaults", "p_max=30", "p_max=60"]
    assert [row["chosen"] for row in table(page, "trials")] == ["", "yes", ""]
    assert [row["front"] for row in table(page, "trials")] == ["", "yes", "yes"]
    rows = [row for row in table(page, "tuned") if row["metric"] == "masr"]
    assert float(rows[1]["difference"]) < 0 and rows[0]["difference"] == ""
    assert "tuned: p_max=30" in (page.parent / "tables" / "tuned.md").read_text()
    assert "hpa (p_max=30.0)" in {row["method"] for row in table(page, "seeds")}
    assert "p_max=30" not in (page.parent / "tables" / "main.md").read_text()
    assert "hpa (p_max=30.0)" not in {row["method"] for row in table(page, "differences")}
    assert "tuned: p_max=30" in text
    with pytest.raises(UserError, match="for other runs than these .suite is 'other' there and 'toy' here"):
        write_report(found, tmp_path / "report", tuned=said.model_copy(update={"suite": "other"}))
    assert "defaults and tuned" not in printed(found)


def test_the_figure_has_a_panel_for_each_method_with_scores():
    empty = method(trial(1, 2).model_copy(update={"scores": {}, "objective": None}))
    drawn = figures.trial_fronts(tuned(hpa=of_hpa(p_max=30.0), l2=of_hpa(), failed=empty))

    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["hpa", "l2"]
    lines = {line.get_label(): line for line in drawn.axes[0].lines}
    assert lines["front"].get_xdata().tolist() == [40, 70] and set(lines) == {
        "front",
        "defaults",
        "trial",
        "trial, chosen",
    }
