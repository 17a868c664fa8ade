"""The page: what it says, what it never says, and that it stands alone."""

import csv
import re
from base64 import b64encode
from hashlib import sha256

import pytest

from hpa_bench.report import write_report
from hpa_bench.report.page.write import SCRIPTS
from hpa_bench.results.measures import Cell
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import read_runs
from tests.support.reports import KEY, MASR, Visible, condition_of, printed, report_of, setting, table
from tests.support.run_folders import TASKS, write_forms, write_run

BAD = '<script>alert("x")</script><img src=x onerror=alert(1)> http://example.org \x00'

SHORT = ["original data", "5% harmful data", "order caption, digits, ad"]


@pytest.mark.slow
def test_page_needs_no_network(page):
    seen = Visible(page)

    assert not {tag for tag, _ in seen.tags} & {"link", "iframe", "object", "base"}
    assert not [of for tag, of in seen.tags if tag == "script" and "src" in of]
    for _, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "xlink:href", "src", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/") if name == "src" else "#")
    assert "http://" not in page.read_text() and "https://" not in page.read_text()
    assert not re.search(r"url\((?!#)", page.read_text()) and "@import" not in page.read_text()


@pytest.mark.slow
def test_the_matrix_has_the_share_in_form_beside_the_accuracy_of_tasks_that_declare_one(tmp_path):
    runs = [write_run(tmp_path, "seqft", seed, forget=0.6) for seed in (0, 1)]
    plain = report_of(runs, tmp_path / "plain").read_text()
    for run in runs:
        write_forms(run, TASKS[:2])
    page = report_of(runs, tmp_path / "report").read_text()

    shares = {}
    for name in TASKS[:2]:
        for stage in range(4):
            rows = [row for run in runs for row in run.stage(stage).responses(name)]
            shares[name, stage] = 100 * sum(row["in_form"] for row in rows) / len(rows)
    assert len(set(shares.values())) > 4 and max(shares.values()) == 100
    told = "Small: the share of responses in the form that the task asks for."
    assert told in page and told not in plain
    lines = [line for line in page.splitlines() if line.startswith('<tr data-m="seqft" data-stage="')]
    assert len(lines) == 4
    for stage, line in enumerate(lines):
        small = [re.findall(r"<small>([^<]*)</small>", cell) for cell in line.split("<td")[1:]]
        assert small == [[f"{shares[name, stage]:.0f}"] for name in TASKS[:2]] + [[]]
    assert not re.search(r'<tr data-m="seqft" data-stage="\d">.*<small>', plain)


@pytest.mark.slow
def test_ids_are_unique_and_links_lead_somewhere(page):
    seen = Visible(page)
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    targets = {attributes["href"][1:] for tag, attributes in seen.tags if tag == "a" and "href" in attributes}

    assert len(ids) == len(set(ids))
    assert targets <= set(ids)


@pytest.mark.slow
def test_page_has_its_parts(page):
    text = Visible(page).text

    assert text.startswith("A & B <report>")
    for part in (
        "What was run",
        "Differences to seqft",
        "Accuracy and forgetting",
        "Safety",
        "ASR ↓ unsafe_image",
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


@pytest.mark.slow
def test_model_output_is_escaped(tmp_path):
    page = report_of([write_run(tmp_path, response=BAD)], tmp_path / "report", BAD)

    seen = Visible(page)
    assert "img" not in {tag for tag, _ in seen.tags}
    assert [of.get("type") for tag, of in seen.tags if tag == "script"] == [
        *["application/json"] * 2,
        *[None] * len(SCRIPTS),
    ]
    assert 'alert("x")' in seen.text


@pytest.mark.slow
def test_the_policy_lets_the_pages_own_scripts_run_and_no_other(page):
    html = page.read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)

    allowed = re.findall(
        r"'sha256-([^']+)'", re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    )
    assert allowed == [b64encode(sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(allowed) == len(SCRIPTS)


@pytest.mark.slow
def test_same_runs_give_the_same_bytes(tmp_path):
    runs = [write_run(tmp_path, "seqft", seed) for seed in (0, 1)]

    for name in ("one", "two"):
        report_of(runs, tmp_path / name)

    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) > 12
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


@pytest.mark.slow
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


@pytest.mark.slow
def test_report_of_failed_runs_alone(tmp_path):
    runs = [write_run(tmp_path, name, finished=-1) for name in ("seqft", "hpa")]

    page = report_of(runs, tmp_path / "report")

    assert "hpa 0 of 1 missing: no stage finished" in Visible(page).text


@pytest.mark.slow
def test_first_condition_has_the_plain_names(tmp_path):
    runs = [write_run(tmp_path / "a", "hpa", harmful_ratio=0.05), write_run(tmp_path / "b", "hpa")]
    runs.append(write_run(tmp_path / "c", "hpa", tasks=TASKS[::-1]))

    page = report_of(runs, tmp_path / "report")

    text = Visible(page).text
    places = [text.index(f"· {part} After 3 tasks") for part in SHORT]
    assert places == sorted(places)
    assert "5% of each task’s training samples are replaced by harmful requests" in text and "so the share here" in text
    for name in (
        "figures/forgetting.svg",
        "figures/3-safety-against-accuracy.svg",
        "tables/main.md",
        "tables/2-main.md",
    ):
        assert (page.parent / name).exists()


@pytest.mark.slow
def test_section_of_settings_shows_differences_to_the_default(tmp_path):
    runs = [setting(tmp_path, seed) for seed in (0, 1)]
    for changed in ({"p_max": 5.0}, {"p_max": 30.0, "p_min": 10.0}, {"selection": "none"}):
        runs += [setting(tmp_path, seed, forget=0.6, unsafe=0.9, **changed) for seed in (0, 1)]
    condition = condition_of(runs)
    page = write_report(read_runs(runs), tmp_path / "report")

    default, five, *_ = condition.settings["hpa"]
    difference = five.difference(default, MASR)
    assert isinstance(difference, Cell) and difference.seeds == 2 and difference.p is not None
    html = page.read_text()
    assert "Settings of hpa" in html and "default<small>p_max=15, p_min=5, selection=full</small>" in html
    assert f"Δ +{difference.value:.1f} [{difference.low:.1f}, {difference.high:.1f}]" in html
    with (page.parent / "tables" / "differences.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "masr"]
    assert {(row["method"], row["reference"]) for row in rows} == {
        (group.label, "hpa") for group in condition.groups[1:]
    }
    assert float(rows[0]["value"]) == pytest.approx(difference.value, abs=1e-4)
    assert (page.parent / "figures" / "keep-rate-hpa.svg").exists()
    assert not (page.parent / "figures" / "accuracy-matrix-hpa-p-max-5-0.svg").exists()


def test_a_report_of_odd_names_acts_nowhere(odd_runs, tmp_path):
    page = write_report(odd_runs, tmp_path / "report")

    for path in [page, *page.parent.glob("tables/*")]:
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text and KEY not in text, path
    assert "=1+1 ␛[2J[/red] [bold] :smile: &lt;b&gt;[redacted]" in page.read_text(encoding="utf-8")
    for path in page.parent.glob("tables/*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                assert not [cell for cell in row if cell[:1] in ("=", "@")], path
