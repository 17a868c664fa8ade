"""Whole runs on small downloads in the published layouts: the same harness, the same guarantees."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hpa_bench import run
from hpa_bench.data import images
from hpa_bench.data.tasks import load_tasks, training_samples
from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.spec import RunOptions, make_spec
from tests.support.downloads import TEST, train_row, write_coin, write_dcl, write_json, write_smolora, write_ucit
from tests.support.models import save_random_llava
from tests.support.safety_downloads import write_all as write_safety_sets


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("downloads")
    save_random_llava(folder / "model")
    write_ucit(folder)
    write_dcl(folder)
    write_smolora(folder)
    write_safety_sets(folder)
    pairs = [train_row(i, "pair.png", "how is this done ?", "first this , then that") for i in range(3)]
    write_json(folder / "pairs" / "pairs.json", pairs)
    Image.new("RGB", (30, 24), "black").save(folder / "pairs" / "pair.png")
    return write_coin(folder)


def start(root: Path, out: Path, tasks: str, *settings: str, method: str = "seqft", **options: object) -> RunFolder:
    own = [f"model={root / 'model'}", f"tasks=[{tasks}]", "lora.rank=2"]
    own += ["training.batch_size=3", "training.gradient_accumulation=1"]
    own += ["evaluation.batch_size=4", "rules.caption=strict"]
    return run(
        "cvit",
        method,
        settings=[*own, *settings],
        data_root=str(root),
        out=out,
        device="cpu",
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.slow
def test_two_tasks_from_two_downloads_beside_the_suites_safety_sets(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for a large download: no pixels are kept.
    monkeypatch.setattr(images, "HELD_BYTES", 0)

    finished = start(root, tmp_path / "run", "dcl_fin, coin_scienceqa")

    assert [stage.path.name for stage in finished.finished_stages()] == ["stage0", "stage1", "stage2"]
    last = finished.finished_stages()[-1]
    fin, science = last.responses("dcl_fin"), last.responses("coin_scienceqa")
    assert len(fin) == TEST and len(science) == TEST + 1
    assert not (last.path / "corpus.json").exists()
    scores = {(row["set"], row["metric"]): row["value"] for row in json.loads((last.path / "scores.json").read_text())}
    assert scores["dcl_fin", "accuracy"] == pytest.approx(100 * sum(row["score"] for row in fin) / TEST, abs=1e-3)
    asr = [scores[name, "asr"] for name in ("vlguard_unsafes", "vlguard_safe_unsafes", "ch3ef")]
    assert scores["all", "masr"] == pytest.approx(sum(asr) / 3, abs=1e-3)
    # No copy of VLGuard's list lies in the download: that judge is missing, and said so once.
    assert list(finished.manifest.judges) == ["vlguard", "keyword"]
    for stage in finished.finished_stages():
        assert "found no copy of VLGuard's list" in stage.missing_judgement("vlguard", "ch3ef")
    log = (finished.path / "events.jsonl").read_text(encoding="utf-8")
    assert log.count("found no copy of VLGuard's list") == 1


@pytest.mark.slow
def test_the_papers_suite_trains_the_projector_and_tells_the_form_of_answers(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap", reason="the extra `captions` is not installed")

    settings = ["rules={}", "training.keep_weights=true", "training.learning_rate=0"]
    finished = start(root, tmp_path / "run", "smolora_flickr30k, smolora_scienceqa", *settings)

    before = load_file(root / "model" / "model.safetensors")
    after = load_file(finished.stage(2).weights / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all("multi_modal_projector" in name for name in moved)
    for stage in finished.finished_stages():
        captions, science = stage.responses("smolora_flickr30k"), stage.responses("smolora_scienceqa")
        assert all(isinstance(row["in_form"], bool) for row in [*captions, *science])
        assert all(0 <= row["score"] <= 10 for row in captions)


@pytest.mark.slow
def test_captions_have_scores_of_their_own_and_a_corpus_figure(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap", reason="the extra `captions` is not installed")

    finished = start(root, tmp_path / "run", "ucit_flickr30k", method="zero_shot")

    (stage,) = finished.finished_stages()
    rows = stage.responses("ucit_flickr30k")
    assert len(rows) == TEST and all(0 <= row["score"] <= 15 / 6 for row in rows)
    corpus = json.loads((stage.path / "corpus.json").read_text())["ucit_flickr30k"]
    assert set(corpus) == {"bleu_rouge_cider"} and 0 <= corpus["bleu_rouge_cider"] <= 15 / 6


def test_captions_that_cannot_be_scored_are_found_before_anything_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpa_bench.data.captions.find_spec", lambda name: None)

    with pytest.raises(UserError, match=r"pip install 'hpa-bench\[captions\]'"):
        start(root, tmp_path / "run", "ucit_flickr30k")
    assert not RunFolder(tmp_path / "run").finished_stages()


@pytest.mark.slow
def test_what_is_kept_in_memory_changes_no_number(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = start(root, tmp_path / "kept", "dcl_ad")
    monkeypatch.setattr(images, "HELD_BYTES", 0)
    read = start(root, tmp_path / "read", "dcl_ad")

    assert kept.finished_stages()[-1].responses("dcl_ad") == read.finished_stages()[-1].responses("dcl_ad")


@pytest.mark.slow
def test_harmful_pairs_from_a_file_are_recorded(root: Path, tmp_path: Path) -> None:
    pairs = str(root / "pairs" / "pairs.json")

    finished = start(root, tmp_path / "run", "dcl_ad", harmful_ratio=0.25, harmful_data=pairs)

    replaced = finished.manifest.poisoned["dcl_ad"]
    assert len(replaced) == 2 and set(replaced.values()) <= {"t0", "t1", "t2"}
    assert finished.manifest.suite_config["harmful_data"] == pairs
    assert len(finished.manifest.data["harmful_pairs"]) == 64


def test_harmful_pairs_are_found_from_where_the_command_is_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    suite = make_spec(RunOptions("mllm-dcl", "seqft", settings=["harmful_data=pairs/pairs.json"]), model=False).suite

    task = load_tasks(["harmful_pairs"], suite.task_folders(), metadata=suite.task_metadata())["harmful_pairs"]

    assert len(training_samples(task)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"harmful_ratio": 0.25, "harmful_data": "gone.json"}, "--harmful-data gone.json is no file"),
        ({"harmful_data": "pairs.json"}, "--harmful-data changes nothing without --harmful-ratio"),
        ({"harmful_ratio": 0.25}, "names no harmful_data; give a file of them by --harmful-data"),
    ],
)
def test_harmful_data_that_cannot_be_used(root: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        start(root, tmp_path / "run", "dcl_ad", **options)


@pytest.mark.slow
def test_a_torn_image_stops_training_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "HELD_BYTES", 0)
    save_random_llava(tmp_path / "model")
    write_dcl(tmp_path)
    write_safety_sets(tmp_path)
    torn = tmp_path / "Domain_data" / "AD" / "images" / "3.png"
    torn.write_bytes(torn.read_bytes()[:60])

    with pytest.raises(UserError, match=r"sample 't3' .*AD/train.json:3\) \(file .*3.png\) cannot be decoded"):
        start(tmp_path, tmp_path / "run", "dcl_ad")

    assert len(RunFolder(tmp_path / "run").finished_stages()) == 1
    assert "3.png" in (tmp_path / "run" / "FAILED").read_text()


def test_a_suite_that_names_no_model_says_which(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'coin' names no model: give one by --set model=PATH \(a stage-1 LLaVA"):
        run("coin", "seqft", data_root=str(root), out=tmp_path / "run")


def test_a_missing_download_is_found_before_anything_runs(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of the download 'dcl' does not exist"):
        start(root, tmp_path / "run", "dcl_ad", f"data_folders.dcl={tmp_path / 'nowhere'}")
    assert not RunFolder(tmp_path / "run").finished_stages()
