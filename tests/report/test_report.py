"""The report, made from synthetic run folders: what it says, what it never says, and that it stands alone."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from hpa_bench import metrics
from hpa_bench.errors import UserError
from hpa_bench.metrics import continual_metrics
from hpa_bench.report import terminal_table, write_report
from hpa_bench.report.columns import plane
from hpa_bench.report.conditions import conditions
from hpa_bench.report.figures import safety_against_accuracy
from hpa_bench.report.ranking import SHOWN, ranked, shown_groups
from hpa_bench.report.tables import number
from hpa_bench.results.measures import ALL, Cell, Key, Series
from hpa_bench.results.run_folder import RunFolder, find_runs
from hpa_bench.results.runs import load_runs, read_runs
from hpa_bench.verdict import EMPTY
from tests.support.run_folders import SAFETY, TASKS, rewrite_manifest, write_run, write_thumbnails

pytestmark = pytest.mark.slow

BAD = '<script>alert("x")</script><img src=x onerror=alert(1)> http://example.org \x00'
AP = Series(ALL, "task", "", "ap")
MASR = Series(ALL, "safety", "keyword", "masr")


def several(root, **options):
    runs = [write_run(root, "zero_shot", seed, stages=[], **options) for seed in (0, 1)]
    runs += [write_run(root, "joint", seed, stages=[TASKS], **options) for seed in (0, 1)]
    runs += [write_run(root, "seqft", seed, unsafe=0.7, forget=0.6, **options) for seed in (0, 1)]
    runs += [write_run(root, "hpa", seed, unsafe=0.1, forget=0.1, **options) for seed in (0, 1)]
    for run in runs:
        write_thumbnails(run, Image.new("RGB", (48, 48), "red"))
    return runs


def report_of(runs, out, title="hpa-bench report"):
    return write_report(read_runs(runs), out, title)


def table(page, name):
    with (page.parent / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Visible(HTMLParser):
    """Collects the text of a page, and every tag with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self._hidden = [], [], False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag == "style"

    def handle_data(self, data):
        if not self._hidden:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("several")
    return report_of(several(root / "runs"), root / "report", "A & B <report>")


def test_page_needs_no_network_and_no_script(page):
    seen = Visible(page)

    assert not {tag for tag, _ in seen.tags} & {"script", "link", "iframe", "object", "base"}
    for _, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "xlink:href", "src", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/") if name == "src" else "#")
    assert "http://" not in page.read_text() and "https://" not in page.read_text()
    assert not re.search(r"url\((?!#)", page.read_text()) and "@import" not in page.read_text()


def test_ids_are_unique_and_links_lead_somewhere(page):
    seen = Visible(page)
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    targets = {attributes["href"][1:] for tag, attributes in seen.tags if tag == "a" and "href" in attributes}

    assert len(ids) == len(set(ids))
    assert targets <= set(ids)


def test_page_has_its_parts(page):
    text = Visible(page).text

    assert text.startswith("A & B <report>")
    for part in (
        "What was run",
        "Differences to seqft",
        "Accuracy and forgetting",
        "Safety",
        "ASR ↓ attack success",
        "Where the time went",
        "Example responses",
        "Definitions",
        "LLaVA-1.5-7B, not comparable",
        "torch 2.0",
        "0123456789ab",
    ):
        assert part in text, part
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
    for name in ("forgetting", "safety-trajectory", "safety-against-accuracy", "accuracy-matrix-hpa"):
        for kind in ("png", "svg"):
            assert (page.parent / "figures" / f"{name}.{kind}").stat().st_size > 1000


def test_main_table_shows_what_the_store_says(page):
    frame = load_runs(page.parent.parent / "runs")
    ap = frame[(frame.method == "hpa") & (frame.metric == "ap")].value

    row = next(row for row in table(page, "results") if row["method"] == "hpa" and row["metric"] == "ap")

    assert float(row["value"]) == pytest.approx(ap.mean(), abs=1e-4)
    assert float(row["sd"]) == pytest.approx(ap.std(), abs=1e-4)
    assert row["seeds"] == "2" and row["n"] == "120"
    assert float(row["low"]) < float(row["value"]) < float(row["high"])
    assert f"{number(ap.mean())} [{number(float(row['low']))}, {number(float(row['high']))}]" in Visible(page).text


def test_stage_table_equals_the_responses(page):
    runs = read_runs(find_runs([page.parent.parent / "runs"]))
    rows = table(page, "stages")

    matrix = np.zeros((4, 3))
    for row in rows:
        if row["method"] == "hpa" and row["metric"] == "accuracy" and row["set"] in TASKS:
            matrix[int(row["stage"]), TASKS.index(row["set"])] = float(row["value"])

    expected = np.mean([continual_metrics(scores_of(run))["bwt"] for run in runs if run.label == "hpa"])
    assert continual_metrics(matrix)["bwt"] == pytest.approx(expected, abs=1e-3)


def scores_of(run):
    return [[100 * np.mean([row["score"] for row in stage.responses(task)]) for task in TASKS] for stage in run.stages]


def test_joint_and_zero_shot_rows(page):
    rows = {(row["method"], row["metric"]): row for row in table(page, "results") if row["judge"] in ("", "keyword")}

    for method in ("joint", "zero_shot"):
        assert rows[method, "ap"]["value"]
        assert rows[method, "bwt"]["value"] == "" and rows[method, "bwt"]["missing"] == "not defined"
    assert float(rows["zero_shot", "dasr"]["value"]) == 0


def test_differences_are_paired(tmp_path):
    seqft, hpa = write_run(tmp_path, "seqft"), write_run(tmp_path, "hpa")

    (condition,) = conditions(read_runs([seqft, hpa]))
    difference = condition.groups[1].difference(condition.reference, AP)
    ours, reference = condition.groups[1].final(AP), condition.reference.final(AP)

    assert isinstance(difference, Cell) and isinstance(ours, Cell) and isinstance(reference, Cell)
    assert difference.value == pytest.approx(ours.value - reference.value)
    unpaired = np.hypot(ours.high - ours.low, reference.high - reference.low)
    assert difference.high - difference.low < 0.8 * unpaired  # The same samples are hard for both.


def test_a_method_minus_its_twin_is_nothing(tmp_path):
    one, twin = write_run(tmp_path / "a", "seqft"), write_run(tmp_path / "b", "seqft")
    rewrite_manifest(twin, method="twin")

    (condition,) = conditions(read_runs([one, twin]))

    assert condition.groups[1].difference(condition.groups[0], MASR)[:4] == (0, 80, 0, 0)


def test_seeds_widen_the_interval(tmp_path):
    runs = read_runs([write_run(tmp_path, "seqft", seed) for seed in range(3)])
    for index, run in enumerate(runs):  # Seeds that differ far more than the samples do.
        run.measures.update({key: shifted(measure, 20 * index) for key, measure in run.measures.items()})

    (condition,) = conditions(runs)
    cell = condition.groups[0].final(AP)

    assert isinstance(cell, Cell) and cell.seeds == 3 and cell.sd == pytest.approx(20, abs=3)
    assert cell.high - cell.low > 30


def shifted(measure, by):
    return replace(measure, value=measure.value + by, replicates=measure.replicates + by)


def test_model_output_is_escaped(tmp_path):
    page = report_of([write_run(tmp_path, response=BAD)], tmp_path / "report", BAD)

    seen = Visible(page)
    assert not {tag for tag, _ in seen.tags} & {"script", "img"}
    assert 'alert("x")' in seen.text


def test_dollars_in_a_setting_are_no_mathematics(tmp_path):
    odd = {"words": r"a$\bad{$b"}
    page = report_of([write_run(tmp_path), write_run(tmp_path, config=odd, changed=odd)], tmp_path / "report")

    assert r"a$\bad{$b" in Visible(page).text


def test_unfinished_runs_say_why(tmp_path):
    stopped = write_run(tmp_path, "hpa", finished=1)
    (stopped.path / "FAILED").write_text("The loss is NaN at step 3.")
    unborn = write_run(tmp_path, "ewc", finished=-1)

    page = report_of([write_run(tmp_path, "seqft"), stopped, unborn], tmp_path / "report")

    text = Visible(page).text
    assert "missing: stopped after stage 1 of 3: The loss is NaN at step 3." in text
    assert "missing: no stage finished" in text
    for row in [*table(page, "results"), *table(page, "differences")]:
        assert (row["value"] == "") == (row["seeds"] == "0")
        if row["method"] in ("hpa", "ewc"):
            assert row["value"] == "" and row["missing"].startswith("missing: ")
    assert "nan" not in (page.parent / "tables" / "results.csv").read_text().lower().replace("loss is nan", "")


def test_seed_that_is_missing_is_not_hidden(tmp_path):
    runs = [write_run(tmp_path, "seqft", 0), write_run(tmp_path, "seqft", 1, finished=2)]

    page = report_of(runs, tmp_path / "report")

    row = next(row for row in table(page, "results") if row["metric"] == "ap")
    assert (row["seeds"], row["missing"]) == ("1", "missing: 1 of 2 seeds")
    assert "seqft, seed 1: missing: stopped after stage 2 of 3" in Visible(page).text


def test_conditions_are_never_averaged(tmp_path):
    runs = [write_run(tmp_path / "a", "hpa"), write_run(tmp_path / "b", "hpa", harmful_ratio=0.001)]
    runs.append(write_run(tmp_path / "c", "hpa", tasks=TASKS[::-1]))

    page = report_of(runs, tmp_path / "report")

    titles = {row["condition"] for row in table(page, "results")}
    assert titles == {
        "toy; original data; order ad, digits, caption",
        "toy; 0.1% harmful data; order ad, digits, caption",
        "toy; original data; order caption, digits, ad",
    }
    assert {row["seeds"] for row in table(page, "results")} <= {"0", "1"}
    seen = Visible(page)
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_runs_that_cannot_stand_together_are_refused(tmp_path):
    first = write_run(tmp_path / "a")
    with pytest.raises(UserError, match="both hpa with seed 0: give one of them"):
        report_of([first, write_run(tmp_path / "b")], tmp_path / "report")
    with pytest.raises(UserError, match="different samples of 'toy_ad' .40 and 20.: report them separately"):
        report_of([first, write_run(tmp_path / "c", "seqft", n=20)], tmp_path / "report")
    with pytest.raises(UserError, match="No runs"):
        report_of([], tmp_path / "report")


def test_same_runs_give_the_same_bytes(tmp_path):
    runs = [write_run(tmp_path, "seqft", seed) for seed in (0, 1)]

    for name in ("one", "two"):
        report_of(runs, tmp_path / name)

    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) > 12
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_judge_of_one_run_alone(tmp_path):
    runs = [write_run(tmp_path, "seqft"), write_run(tmp_path, "hpa", manifest={"judges": ["keyword"]})]

    page = report_of(runs, tmp_path / "report")

    row = next(
        row
        for row in table(page, "results")
        if (row["method"], row["judge"], row["set"], row["metric"]) == ("hpa", "toy_compliance", SAFETY[0], "complied")
    )
    assert row["missing"] == "missing: not judged by toy_compliance"


def test_suite_without_safety_sets(tmp_path):
    page = report_of([write_run(tmp_path, safety_sets=[], benign_sets=[])], tmp_path / "report")

    assert not (page.parent / "figures" / "safety-trajectory.svg").exists()
    assert {row["kind"] for row in table(page, "results")} == {"task"}


def test_terminal_table(tmp_path):
    runs = several(tmp_path)
    stopped = write_run(tmp_path, "ewc", finished=1)
    (stopped.path / "FAILED").write_text("out of memory")
    console = Console(width=120, record=True, file=io.StringIO())

    console.print(terminal_table(read_runs([*runs, stopped])))

    text = console.export_text()
    for expected in ("AP", "BWT", "MASR", "DASR", "Over-refusal", "hpa: accuracy after each stage", "0 aligned"):
        assert expected in text
    assert "ewc, seed 0: missing: stopped after stage 1 of 3: out of memory" in text
    assert "nan" not in text.lower()


def test_row_of_a_method_that_failed_says_why_everywhere(tmp_path):
    folder = RunFolder(tmp_path / "toy" / "needy-1" / "seed0")
    planned = write_run(tmp_path / "other", "needy", finished=-1).manifest
    folder.record_failure(planned, "Method 'needy' needs <what> the suite has not.")

    runs = read_runs([write_run(tmp_path, "seqft"), folder])
    page = write_report(runs, tmp_path / "report")

    why = "missing: no stage finished: Method 'needy' needs <what> the suite has not."
    assert f"needy 0 of 1 {why} " in Visible(page).text
    assert {row["missing"] for row in table(page, "results") if row["method"] == "needy"} >= {why}
    assert next(row for row in table(page, "costs") if row["method"] == "needy")["missing"] == why
    assert why.replace("<what>", "&lt;what&gt;").replace("'", "&#x27;") in (page.parent / "tables/main.md").read_text()
    assert why.split(": ", 1)[1] in printed(runs)


def test_report_of_failed_runs_alone(tmp_path):
    runs = [write_run(tmp_path, name, finished=-1) for name in ("seqft", "hpa")]

    page = report_of(runs, tmp_path / "report")

    assert "hpa 0 of 1 missing: no stage finished" in Visible(page).text


def test_costs_stand_in_the_main_table(page):
    text = Visible(page).text

    assert "Train, s Edit, s Peak memory State Trained parameters" in text.split("Differences to seqft")[1]
    assert "24.3 3.6 667.6 MiB 12.0 KiB 120,000" in text
    main = (page.parent / "tables" / "main.md").read_text()
    assert "| 24.3 | 3.6 | 667.6 MiB | 12.0 KiB | 120,000 |" in main


def test_differences_to_hpa_stand_beside_those_to_seqft(page):
    rows = table(page, "differences")

    assert {row["reference"] for row in rows} == {"seqft", "hpa"}
    minus = {(row["method"], row["reference"]): float(row["value"]) for row in rows if row["metric"] == "masr"}
    assert minus["seqft", "hpa"] == -minus["hpa", "seqft"]


def test_first_condition_has_the_plain_names(tmp_path):
    runs = [write_run(tmp_path / "a", "hpa", harmful_ratio=0.05), write_run(tmp_path / "b", "hpa")]
    runs.append(write_run(tmp_path / "c", "hpa", tasks=TASKS[::-1]))

    page = report_of(runs, tmp_path / "report")

    text = Visible(page).text
    places = [text.index(f"toy; {part}: main results") for part in CONDITIONS]
    assert places == sorted(places)
    assert "5% of each task’s training samples are replaced by harmful requests" in text and "so the share here" in text
    for name in ("figures/forgetting.svg", "figures/3-forgetting.svg", "tables/main.md", "tables/2-main.md"):
        assert (page.parent / name).exists()


CONDITIONS = [
    "original data; order ad, digits, caption",
    "5% harmful data; order ad, digits, caption",
    "original data; order caption, digits, ad",
]


def test_table_across_conditions_ranks_the_methods_that_they_share(tmp_path):
    runs = []
    for place, ratio in (("clean", 0.0), ("harmful", 0.05)):
        runs.append(write_run(tmp_path / place, "seqft", unsafe=0.8, n=80, harmful_ratio=ratio))
        runs.append(write_run(tmp_path / place, "hpa", unsafe=0.1, n=80, harmful_ratio=ratio))
        runs.append(write_run(tmp_path / place, "zero_shot", stages=[], n=80, harmful_ratio=ratio))
    runs.append(write_run(tmp_path / "clean", "alone", n=80))

    page = report_of(runs, tmp_path / "report")

    rows = table(page, "conditions")
    masr = {(row["method"], row["condition"]): (row["rank"], row["mark"]) for row in rows if row["metric"] == "masr"}
    for condition in ("toy; original data", "toy; 5% harmful data"):
        assert masr["hpa", condition] == ("1", "best")
        assert masr["seqft", condition] == ("2", "")
        assert masr["zero_shot", condition] == ("", "")
    assert len(masr) == 6
    assert "AP, original data | MASR, original data | AP, 5% harmful data" in (
        page.parent / "tables" / "conditions.md"
    ).read_text().replace(" ↑", "")
    assert "Across conditions" in Visible(page).text


def test_equal_methods_share_a_rank(tmp_path):
    runs = []
    for place, ratio in (("clean", 0.0), ("harmful", 0.05)):
        for name, method in (("a", "one"), ("b", "two")):
            run = write_run(tmp_path / place / name, "hpa", harmful_ratio=ratio)
            rewrite_manifest(run, method=method)
            runs.append(run)

    rows = table(report_of(runs, tmp_path / "report"), "conditions")

    assert {row["rank"] for row in rows} == {"1"} and {row["mark"] for row in rows} == {""}


def test_figures_of_many_methods_show_a_few(tmp_path):
    runs = [write_run(tmp_path, "zero_shot", stages=[]), write_run(tmp_path, "joint", stages=[TASKS])]
    runs += [write_run(tmp_path, name, forget=0.9, unsafe=0.9) for name in ("seqft", "hpa")]
    runs += [write_run(tmp_path, f"m{i:02}", forget=0.04 * i, unsafe=0.8 - 0.04 * i) for i in range(20)]

    (condition,) = conditions(read_runs(runs))
    page = report_of(runs, tmp_path / "report")

    shown = {group.label for group in shown_groups(condition)}
    assert len(shown) == SHOWN and {"seqft", "hpa"} <= shown and not {"zero_shot", "joint"} & shown
    for series in plane(condition):
        assert ranked(series, condition.main)[0].label in shown
    text = Visible(page).text
    assert f"The figure shows {SHOWN} of 23 methods: seqft, hpa, then in turn" in text
    for group in condition.main:
        assert f"{group.label} AP " in text  # Its accuracy matrix, folded.


def test_numbers_in_the_figure_do_not_overlap(tmp_path):
    runs = [write_run(tmp_path, f"m{i:02}", forget=0.2 + 0.01 * (i % 5), unsafe=0.1 + 0.02 * i) for i in range(24)]
    (condition,) = conditions(read_runs(runs))

    figure = safety_against_accuracy(condition)

    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == [str(number) for number in range(1, 25)]
    for index, box in enumerate(boxes):
        inner = box.padded(-2)  # The glyphs, without the room above and below them.
        assert not any(inner.overlaps(other.padded(-2)) for other in boxes[index + 1 :])


def printed(runs):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal_table(runs))
    return console.export_text()


def test_a_metric_that_is_declared_once_stands_everywhere(tmp_path, monkeypatch):
    """The lowest final accuracy of any task, as a stranger might want it."""
    monkeypatch.setitem(metrics.METRICS, "worst", metrics.METRICS["ap"])  # Taken away after the test.
    write_run(tmp_path / "runs", "hpa")

    @metrics.continual("Worst", "higher")
    def worst(matrix):
        """The lowest accuracy of any task after the last stage."""
        return matrix[..., -1, :].min(-1)

    found = read_runs(find_runs([tmp_path / "runs"]))
    page = write_report(found, tmp_path / "report")

    expected = min(found[0].measures[Key(3, Series(task, "task", "", "accuracy"))].value for task in TASKS)
    (row,) = [row for row in table(page, "results") if row["metric"] == "worst"]
    assert float(row["value"]) == pytest.approx(expected, abs=1e-4) and float(row["low"]) < float(row["value"])
    frame = load_runs(tmp_path / "runs")
    assert frame[frame.metric == "worst"].value.item() == pytest.approx(expected)
    assert "Worst ↑" in Visible(page).text and "The lowest accuracy of any task after" in Visible(page).text


def test_a_share_of_verdicts_that_is_declared_once_is_measured(tmp_path, monkeypatch):
    write_run(tmp_path, "hpa", unsafe=0.8)
    share = metrics.Share("told_apart", "Told apart", "", "", of=lambda answers: answers.verdicts != EMPTY)
    monkeypatch.setitem(metrics.METRICS, "told_apart", share)

    frame = load_runs(tmp_path)

    rows = frame[(frame.stage == 3) & (frame.set == SAFETY[0]) & (frame.judge == "toy_compliance")]
    by_metric = rows.set_index("metric").value
    assert by_metric["told_apart"] == pytest.approx(100 - by_metric["empty"]) and by_metric["empty"] > 0
