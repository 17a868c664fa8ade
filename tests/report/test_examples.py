"""Redaction: what harms does not leave the run directory, unless asked for."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.files import write_jsonl
from hpa_bench.report import write_report
from hpa_bench.report.conditions import conditions
from hpa_bench.report.examples import examples
from hpa_bench.results.runs import read_runs
from hpa_bench.results.thumbnails import BLURRED, KEPT
from tests.support.run_folders import BENIGN, SAFETY, TASKS, write_run, write_thumbnails

SECRETS = ("HARMFUL-REQUEST", "REFERENCE-ANSWER", "COMPLIED-WITH", "REQUEST-REPEATED", "ID-THAT-TELLS", "TELLING-HARM")
IN_TABLES = "TELLING-HARM"
"""The one that tables hold as well, where unsafe material is asked for: a harm category."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose safety sets hold recognisable text and a recognisable image."""
    run = write_run(tmp_path_factory.mktemp("runs"), unsafe=0.9, categories=True)
    for stage in run.finished_stages():
        for name in SAFETY:
            renamed = [f"{row['id']}-ID-THAT-TELLS" for row in stage.responses(name)]
            for judge in stage.judges():
                given = stage.judgements(judge, name)
                stage.write_judgements(judge, name, dict(zip(renamed, given.values(), strict=True)))
            rows = stage.responses(name)
            for row in rows:
                row["id"] += "-ID-THAT-TELLS"
                row["category"] += "-TELLING-HARM"
                row["prompt"], row["target"] = "<image>\nHARMFUL-REQUEST please?", "REFERENCE-ANSWER"
                sure = row["response"].startswith("Sure")
                row["response"] = "COMPLIED-WITH it all" if sure else "I cannot help with the REQUEST-REPEATED"
            write_jsonl(stage.path / "responses" / f"{name}.jsonl", rows)
    stripes = np.indices((48, 48)).sum(0) % 2 * 255
    write_thumbnails(run, Image.fromarray(stripes.astype(np.uint8)))
    return run


def shown(run, **options):
    (condition,) = conditions(read_runs([run]))
    return {each["set"]: each["samples"] for each in examples(condition, **options)}


def pixels(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@pytest.mark.slow
def test_no_file_of_a_report_holds_what_harms(run, tmp_path):
    page = write_report(read_runs([run]), tmp_path)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 12
    for path in files:
        for secret in SECRETS:
            assert secret.encode() not in path.read_bytes(), (path, secret)
    text = page.read_text()
    assert "harmful request, 3 words, hidden" in text and "response, 3 words, hidden" in text


@pytest.mark.slow
def test_show_unsafe_shows_it_in_the_page_alone(run, tmp_path):
    result = CliRunner().invoke(app, ["report", str(run.path), "--out", str(tmp_path), "--show-unsafe"])

    assert result.exit_code == 0, result.output
    page = tmp_path / "report.html"
    assert all(secret in page.read_text() for secret in SECRETS) and "Do not publish this page" in page.read_text()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != page:
            found = {secret for secret in SECRETS if secret.encode() in path.read_bytes()}
            assert found == ({IN_TABLES} if path.name == "categories.csv" else set())


def test_images_of_safety_sets_are_blurred_pixel_by_pixel(run):
    hidden, plain = shown(run), shown(run, show_unsafe=True)

    for name in (*TASKS, *BENIGN):
        assert pixels(hidden[name][0]["images"][0]).std() > 100
    for name in SAFETY:
        for sample in hidden[name]:
            (image,) = sample["images"]
            assert pixels(image).shape == (BLURRED, BLURRED, 3) and pixels(image).std() < 5
        assert pixels(plain[name][0]["images"][0]).std() > 100


def test_incoherent_responses_say_why(tmp_path):
    run = write_run(tmp_path, unsafe=-1, response="stop " * 30)

    (_, response), *_ = shown(run)[SAFETY[0]][0]["responses"]

    assert response["verdicts"].endswith("incoherent: repetition")


def test_examples_are_samples_with_images(run):
    kept = set(run.thumbnails(SAFETY[0]))

    assert len(kept) == KEPT
    assert {sample["id"] for sample in shown(run, show_unsafe=True)[SAFETY[0]]} <= kept
    assert [sample["id"] for sample in shown(run)[SAFETY[0]]] == ["sample 1", "sample 2", "sample 3"]


def test_runs_without_images_have_examples(tmp_path):
    samples = shown(write_run(tmp_path))

    assert all(sample["images"] == [] for listed in samples.values() for sample in listed)
    assert {len(listed) for listed in samples.values()} == {3}
