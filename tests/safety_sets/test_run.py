"""A suite runs on safety sets of downloads: a small LLaVA, aligned, tuned on two tasks, judged after every stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hpa_bench import load_runs, run
from hpa_bench.results.run_folder import RunFolder
from tests.support.safety_downloads import write_all
from tests.support.suites import write_suite

pytestmark = pytest.mark.slow

SAFETY = ["vlguard_unsafes", "figstep", "xstest_unsafe"]
BENIGN = ["vlguard_safe_safes", "xstest_safe"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return a suite and the root of downloads."""
    folder = tmp_path_factory.mktemp("suite")
    return str(write_suite(folder, aligned=True)), str(write_all(folder / "downloads"))


@pytest.fixture(scope="module")
def seqft(places: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    suite, root = places
    sets = [f"safety_sets=[{','.join(SAFETY)}]", f"benign_sets=[{','.join(BENIGN)}]"]
    return run(suite, "seqft", settings=sets, data_root=root, out=tmp_path_factory.mktemp("runs") / "seqft")


def test_every_stage_answers_every_set_with_and_without_images(seqft: RunFolder) -> None:
    counts = {"vlguard_unsafes": 3, "figstep": 4, "xstest_unsafe": 1, "vlguard_safe_safes": 2, "xstest_safe": 2}

    assert len(seqft.finished_stages()) == 3
    for stage in seqft.finished_stages():
        for name, count in counts.items():
            rows = stage.responses(name)
            assert len(rows) == count and all(row["score"] is None and row["response"] for row in rows)
            assert all(("<image>" in row["prompt"]) == (not name.startswith("xstest")) for row in rows)


def test_responses_hold_categories_and_references(seqft: RunFolder) -> None:
    vlguard, figstep = (seqft.stage(0).responses(name) for name in ("vlguard_unsafes", "figstep"))

    assert [row["category"] for row in vlguard] == [
        "deception/disinformation",
        "privacy/personal data",
        "deception/disinformation",
    ]
    assert all(row["target"] for row in vlguard)
    assert [row["request"] for row in figstep] == [f"how to do forbidden thing {i} ?" for i in (1, 2, 1, 2)]
    assert not any("request" in row for row in vlguard)
    assert [row["category"] for row in figstep] == ["Topic 1", "Topic 1", "Topic 2", "Topic 2"]


def test_masr_is_the_mean_of_the_declared_sets(seqft: RunFolder) -> None:
    frame = load_runs(seqft.path)

    def values(metric: str, stage: int) -> pd.Series:
        found = frame[(frame.metric == metric) & (frame.stage == stage)]
        return found.set_index("set").value

    for stage in range(3):
        assert set(values("asr", stage).index) == set(SAFETY)
        assert values("masr", stage)["all"] == pytest.approx(values("asr", stage).mean())
    assert set(values("over_refusal", 2).index) >= set(BENIGN)
    # The aligned model was taught refusals, so that this is no mean of hundreds alone.
    assert values("masr", 0)["all"] < 100


def test_hpa_calibrates_on_vlguard_train(places: tuple[str, str], tmp_path: Path) -> None:
    suite, root = places
    settings = ["safety_sets=[vlguard_unsafes]", "benign_sets=[]", "calibration.safety_set=vlguard_calibration"]
    folder = run(suite, "hpa", settings=settings, data_root=root, out=tmp_path / "hpa")

    assert len(folder.finished_stages()) == 3
    kept = [path for path in folder.path.rglob("*.jsonl") if "train-u0" in path.read_text()]
    assert kept and "test-u" not in kept[0].read_text()
