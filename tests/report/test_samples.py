"""The samples of a page: all of them, once, and nothing that harms."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from hpa_bench.files import write_jsonl
from hpa_bench.report import samples
from hpa_bench.report.conditions import conditions
from hpa_bench.report.samples import DIGITS, Part, Samples, coded, samples_of, script_json
from hpa_bench.results.published import find_published
from hpa_bench.results.runs import read_runs
from hpa_bench.results.thumbnails import BLURRED
from tests.support.published import publish_committed
from tests.support.run_folders import BENIGN, SAFETY, TASKS, write_forms, write_run, write_thumbnails

SECRETS = ("HARMFUL-REQUEST", "REFERENCE-ANSWER", "SECRET-RESPONSE", "ID-THAT-TELLS", "TELLING-HARM")


def decoded(values):
    at = [DIGITS.index(sign) for sign in values["at"]] if isinstance(values["at"], str) else values["at"]
    return [values["of"][place] for place in at]


@pytest.fixture(scope="module")
def unsafe(tmp_path_factory):
    """A run whose safety sets hold recognisable texts and images."""
    run = write_run(tmp_path_factory.mktemp("runs"), unsafe=0.9, categories=True)
    for stage in run.finished_stages():
        for name in SAFETY:
            rows = stage.responses(name)
            renamed = {row["id"]: f"{row['id']}-ID-THAT-TELLS" for row in rows}
            for row in rows:
                row |= {"id": renamed[row["id"]], "prompt": "HARMFUL-REQUEST please", "target": "REFERENCE-ANSWER"}
                row |= {"response": "a SECRET-RESPONSE", "category": "TELLING-HARM"}
            write_jsonl(stage.path / "responses" / f"{name}.jsonl", rows)
            for judge in stage.judges():
                given = stage.judgements(judge, name)
                stage.write_judgements(judge, name, {renamed[sample]: word for sample, word in given.items()})
    stripes = np.indices((48, 48)).sum(0) % 2 * 255
    write_thumbnails(run, Image.fromarray(stripes.astype(np.uint8)))
    return run


def of(*folders, show_unsafe=False):
    runs = read_runs(folders)
    return runs, Samples([Part("part", "all", runs)], show_unsafe)


def test_lists_stand_as_their_different_values():
    many = [f"text {index % 70}" for index in range(200)]

    assert coded(["a", "b", "a", None]) == {"of": ["a", "b", None], "at": "0102"}
    assert decoded(coded(many)) == many and isinstance(coded(many)["at"], list)
    assert coded([]) == {"of": [], "at": ""}


def test_blocks_hold_every_response_score_and_verdict(tmp_path):
    folder = write_run(tmp_path, shuffle=True)
    write_forms(folder)
    (run,), found = of(folder)

    (part,) = found.index()["parts"]
    (listed,) = part["runs"]
    block = found.block(listed["key"])
    assert listed["stages"] == ["aligned", "ad", "digits", "caption"] and part["judges"] == run.judges
    for stage in range(4):
        assert set(block["stages"][stage]) == {*TASKS, *SAFETY, *BENIGN}
        for name, said in block["stages"][stage].items():
            rows = sorted(run.stages[stage].responses(name), key=lambda row: row["id"])
            table = found.block(listed["sets"][name]["table"])
            texts = [(block["veiled"] if said.get("veiled") else block["texts"])[n] for n in decoded(said["responses"])]
            assert said["check"] == table["check"]
            if name in SAFETY:
                assert texts == [len(row["response"].split()) for row in rows] and table["ids"] is None
            else:
                assert texts == [row["response"] for row in rows] and table["ids"] == [row["id"] for row in rows]
                assert [table["texts"][n] for n in decoded(table["prompts"])] == [row["prompt"] for row in rows]
            if name in TASKS:
                assert decoded(said["scores"]) == [round(row["score"], 4) for row in rows]
                assert ("in_form" in said) == (name in TASKS[:2])
            else:
                verdicts = {judge: decoded(given) for judge, given in said["verdicts"].items()}
                judged = {judge: run.stages[stage].judgements(judge, name) for judge in run.judges}
                assert verdicts == {judge: [words[row["id"]] for row in rows] for judge, words in judged.items()}


def test_published_runs_have_the_samples_of_their_folders_where_responses_are_kept(tmp_path):
    folders = [write_run(tmp_path / "runs", seed=seed) for seed in (0, 1)]
    for folder in folders:
        publish_committed(folder, tmp_path / "published")

    _, of_folders = of(*folders)
    _, of_published = of(*find_published(tmp_path / "published"))
    first, second = of_published.index()["parts"][0]["runs"]
    assert (first["seed"], second["seed"], second["key"]) == (0, 1, "")
    block, published = of_folders.block("run0-4"), of_published.block(first["key"])
    for stage, other in zip(block["stages"], published["stages"], strict=True):
        for name in (*TASKS, *BENIGN):
            texts, others = (
                [each["texts"][n] for n in decoded(said[name]["responses"])]
                for each, said in ((block, stage), (published, other))
            )
            assert texts == others
            assert stage[name].get("scores") == other[name].get("scores")
            assert stage[name].get("verdicts") == other[name].get("verdicts")
        for name in SAFETY:  # Published without show_unsafe: not even how many words there were.
            assert published["veiled"] == [None] and other[name]["verdicts"] == stage[name]["verdicts"]
            why = [decoded(of_run[name]["incoherent"]) for of_run in (stage, other)]
            assert why[1] == ["incoherent" if word else "" for word in why[0]]


def test_runs_tested_on_the_same_share_their_sets(tmp_path):
    _, found = of(write_run(tmp_path), write_run(tmp_path, "seqft"))

    assert sum(name.startswith("set") for name in found.names()) == len([*TASKS, *SAFETY, *BENIGN])
    assert sum(name.startswith("run") for name in found.names()) == 2


def test_what_harms_is_in_no_block_unless_asked_for(unsafe):
    _, hidden = of(unsafe)
    _, shown = of(unsafe, show_unsafe=True)

    texts = {found: json.dumps([found.index(), *map(found.block, found.names())]) for found in (hidden, shown)}
    assert not [secret for secret in SECRETS if secret in texts[hidden]]
    assert all(secret in texts[shown] for secret in SECRETS)


def test_images_of_safety_sets_are_a_few_colours(unsafe):
    _, found = of(unsafe)
    (listed,) = found.index()["parts"][0]["runs"]

    for name, about in listed["sets"].items():
        table = found.block(about["table"])
        assert len(table["shown"]) == 16
        for url in table["images"]:
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
            assert (max(pixels.shape[:2]) == BLURRED) == (name in SAFETY)


def test_a_page_holds_what_fits_and_the_rest_lies_beside_it(tmp_path, monkeypatch):
    found = conditions(read_runs(write_run(tmp_path / "runs", name) for name in ("hpa", "seqft")))
    (tmp_path / "data").mkdir()
    mine, old = tmp_path / "data" / "mine.js", tmp_path / "data" / "samples-run9-9.js"
    mine.write_text("mine")
    old.write_text("old")

    whole = samples_of(found, tmp_path, anchors=["part"])
    assert not whole["beside"] and list((tmp_path / "data").iterdir()) == [mine]
    blocks = json.loads(whole["json"])["blocks"]
    size = sum(len(script_json(block)) for block in blocks.values())
    monkeypatch.setattr(samples, "INSIDE_BYTES", size - 10)
    some = samples_of(found, tmp_path, anchors=["part"])

    assert some["beside"]
    kept = json.loads(some["json"])["blocks"]
    left = [path for path in (tmp_path / "data").iterdir() if path != mine]
    assert len(left) == 1 and len(kept) == len(blocks) - 1
    key, text = re.fullmatch(r'hpaSamplesRead\("([\w-]+)",(.*)\);\n', left[0].read_text()).groups()
    assert left[0].name == f"samples-{key}.js" and kept | {key: json.loads(text)} == blocks


def test_the_reference_comes_first(tmp_path):
    found = conditions(
        read_runs(write_run(tmp_path, name, seed, n=8) for name in ("ewc", "seqft", "hpa") for seed in (0, 1))
    )

    listed = json.loads(samples_of(found, tmp_path, anchors=["part"])["json"])["index"]["parts"][0]["runs"]
    assert [(run["label"], run["seed"]) for run in listed] == [
        (label, seed) for seed in (0, 1) for label in ("seqft", "hpa", "ewc")
    ]


def test_runs_without_responses_are_named_and_a_page_of_them_has_no_viewer(tmp_path):
    empty = write_run(tmp_path, "ewc", finished=-1)
    _, found = of(write_run(tmp_path), empty)

    listed = {run["label"]: run["key"] for run in found.index()["parts"][0]["runs"]}
    assert listed["hpa"] and listed["ewc"] == ""
    assert samples_of(conditions(read_runs([empty])), tmp_path, anchors=["part"]) is None


def test_data_cannot_end_the_script_that_holds_it():
    odd = {"a": "</script><script>alert(1)</script> & \u2028"}

    text = script_json(odd)
    assert not set("<>&\u2028") & set(text) and json.loads(text) == odd


def test_texts_are_clean_and_no_longer_than_is_read(tmp_path):
    key = "sk-proj-abcdef0123456789"
    _, found = of(write_run(tmp_path, response=f"\x1b[2J {key} " + "word " * 3000))

    text = json.dumps(found.block(found.index()["parts"][0]["runs"][0]["key"]))
    assert key not in text and "\\u001b" not in text and len(text) < 30_000
