"""Agreement, categories and calibration, against scikit-learn and the plainest recomputation from the files."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from hpa_bench.files import read_jsonl, write_jsonl
from hpa_bench.results.absence import absence, uncalibrated
from hpa_bench.results.agreement import cohens_kappa
from hpa_bench.results.measures import ALL, Key, Series, combine
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import Run, load_runs
from hpa_bench.results.statistics import deviations, wilson
from hpa_bench.verdict import COMPLIANCE, HARM, Vocabulary
from tests.support.run_folders import BENIGN, SAFETY, write_references, write_run

PAIR = "keyword vs toy_compliance"


def kappa(one, two):
    one, two = np.array(one, float), np.array(two, float)
    return float(cohens_kappa((one * two).mean(), one.mean(), two.mean()))


def disagreeing(root, share=0.2, **options):
    """A run whose first judge turns a share of its verdicts around."""
    run = write_run(root, **options)
    rng = np.random.default_rng(3)
    for stage in run.finished_stages():
        for name in SAFETY:
            path = stage.path / "judgements" / "keyword" / f"{name}.jsonl"
            rows = read_jsonl(path)
            for row in rows:
                if rng.random() < share:
                    row["verdict"] = "not_refused" if row["verdict"] == "refused" else "refused"
            write_jsonl(path, rows)
    return run


def success(run, stage, judge, name):
    return [verdict != "refused" for _, verdict in sorted(run.stage(stage).judgements(judge, name).items())]


def test_guards_and_refusals_are_read_alike():
    verdicts = ["refused", "safe", "unsafe", "complied", "neither", "empty", "not_refused"]
    for words in (COMPLIANCE, HARM):
        assert Vocabulary(words).attack_success(verdicts).tolist() == [False, False, True, True, True, True, True]


def test_kappa_equals_sklearns():
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        one = rng.random(200) < share
        two = np.where(rng.random(200) < 0.3, ~one, one)
        assert kappa(one, two) == pytest.approx(cohen_kappa_score(one, two))
    assert kappa([1, 0, 1, 0], [1, 0, 1, 0]) == 1
    assert kappa([1, 0, 1, 0], [0, 1, 0, 1]) == -1


def test_kappa_of_constant_judges():
    assert np.isnan(kappa([0, 0, 0], [0, 0, 0])) and np.isnan(kappa([1, 1, 1], [1, 1, 1]))
    assert kappa([0, 0, 0], [1, 1, 1]) == 0
    assert kappa([0, 0, 0], [0, 1, 0]) == 0


def test_agreement_of_a_run(tmp_path):
    run = disagreeing(tmp_path, unsafe=0.5)

    details = Run(run).details

    both = [[success(run, 3, judge, name) for name in SAFETY] for judge in ("keyword", "toy_compliance")]
    for name, (one, two) in {
        SAFETY[1]: (both[0][1], both[1][1]),
        ALL: ([*both[0][0], *both[0][1]], [*both[1][0], *both[1][1]]),
    }.items():
        measured = details[Key(3, Series(name, "safety", PAIR, "kappa"))]
        assert measured.value == pytest.approx(cohen_kappa_score(one, two)) and measured.n == len(one)
        cell = combine(Key(3, Series(name, "safety", PAIR, "kappa")), [measured])
        assert -1 < cell.low < cell.value < cell.high < 1
        agreed = details[Key(3, Series(name, "safety", PAIR, "agreement"))]
        assert agreed.value == pytest.approx(100 * np.mean(np.equal(one, two))) and agreed.n == len(one)


def test_agreement_of_seeds_is_their_mean(tmp_path):
    runs = [Run(disagreeing(tmp_path / str(seed), share, seed=seed)) for seed, share in ((0, 0.02), (1, 0.3))]
    key = Key(0, Series(SAFETY[0], "safety", PAIR, "kappa"))

    cell = combine(key, [run.details[key] for run in runs])

    assert cell.value == pytest.approx(np.mean([run.details[key].value for run in runs]))
    assert -1 <= cell.low <= cell.value <= cell.high <= 1 and cell.seeds == 2


def test_errors_of_agreement_and_kappa_are_those_of_the_jackknife(tmp_path):
    run = Run(disagreeing(tmp_path, unsafe=0.5))
    one, two = (
        np.array(success(RunFolder(run.path), 3, judge, SAFETY[0]), float) for judge in ("keyword", "toy_compliance")
    )
    left = [np.delete(np.arange(len(one)), index) for index in range(len(one))]

    for metric, value in (("kappa", kappa), ("agreement", lambda a, b: 100 * np.mean(a == b))):
        found = run.details[Key(3, Series(SAFETY[0], "safety", PAIR, metric))].deviations
        expected = deviations(np.array([value(one[rest], two[rest]) for rest in left]))
        np.testing.assert_allclose(found - found.mean(), expected, rtol=0.05, atol=0.02 * np.abs(expected).max())


def test_undefined_kappa_says_so(tmp_path):
    run = Run(write_run(tmp_path, unsafe=-1))
    key = Key(3, Series(ALL, "safety", PAIR, "kappa"))

    assert key not in run.details
    assert absence(run, key) == "undefined: each judge gives all these responses the same verdict"
    assert run.details[Key(3, Series(ALL, "safety", PAIR, "agreement"))].value == 100


def test_pair_of_which_one_has_not_judged(tmp_path):
    folder = write_run(tmp_path, unsafe=0.8)
    (folder.stage(3).path / "judgements" / "toy_compliance" / f"{SAFETY[0]}.jsonl").unlink()
    run = Run(folder)

    for name in (SAFETY[0], ALL):
        assert absence(run, Key(3, Series(name, "safety", PAIR, "kappa"))) == "missing: not judged by toy_compliance"
        assert Key(3, Series(name, "safety", PAIR, "kappa")) not in run.details
    assert Key(3, Series(SAFETY[1], "safety", PAIR, "kappa")) in run.details


def test_categories_of_a_run(tmp_path):
    folder = write_run(tmp_path, categories=True, unsafe=0.6)

    details = Run(folder).details

    by_stage = {}
    for stage in (0, 3):
        verdicts = folder.stage(stage).judgements("keyword", SAFETY[0])
        own = [row["id"] for row in folder.stage(stage).responses(SAFETY[0]) if row["category"] == "fraud"]
        by_stage[stage] = np.array([verdicts[sample] != "refused" for sample in own])
    series = Series(f"{SAFETY[0]}/fraud", "safety", "keyword", "category_asr")
    for stage, hit in by_stage.items():
        cell = combine(Key(stage, series), [details[Key(stage, series)]])
        assert cell.value == pytest.approx(100 * hit.mean()) and cell.n == len(hit) == 14
        assert (cell.low / 100, cell.high / 100) == pytest.approx(wilson(int(hit.sum()), len(hit)))
    key = Key(3, series._replace(metric="category_change"))
    change = combine(key, [details[key]])
    assert change.value == pytest.approx(100 * (by_stage[3].mean() - by_stage[0].mean()))
    assert change.low < change.value < change.high
    assert Key(0, key.series) not in details


def test_set_without_categories_has_none(tmp_path):
    details = Run(write_run(tmp_path)).details
    assert {key.series.metric for key in details} == {"agreement", "kappa"}


def test_calibration_of_a_judge(tmp_path):
    folder = write_run(tmp_path)
    write_references(folder, "keyword", SAFETY[0], ["refused"] * 6 + ["not_refused"] * 4)
    write_references(folder, "keyword", BENIGN[0], ["not_refused", "refused"])
    write_references(folder, "toy_compliance", SAFETY[0], ["refused"] * 9 + ["complied"])
    write_references(folder, "toy_compliance", SAFETY[1], ["refused"] * 5)
    run = Run(folder)

    def found(metric, name, judge, kind="safety"):
        return run.calibration.get(Key(0, Series(name, kind, judge, metric)))

    asr = found("asr", SAFETY[0], "keyword")
    assert (asr.value, asr.n) == (40, 10)
    cell = combine(Key(0, Series(SAFETY[0], "safety", "keyword", "asr")), [asr])
    assert (cell.low / 100, cell.high / 100) == pytest.approx(wilson(4, 10))
    assert found("over_refusal", BENIGN[0], "keyword", "benign").value == 50
    assert found("masr", ALL, "keyword") is None  # Never a mean over fewer sets than declared.
    assert found("masr", ALL, "toy_compliance").value == pytest.approx(5)
    missing = Series(SAFETY[1], "safety", "keyword", "asr")
    assert uncalibrated(run, missing) == "missing: reference answers not judged by keyword"
    assert uncalibrated(run, missing._replace(set=ALL)) == "missing: reference answers not judged by keyword"


def test_set_without_reference_answers(tmp_path):
    run = Run(write_run(tmp_path))

    assert run.calibration == {}
    assert uncalibrated(run, Series(SAFETY[1], "safety", "keyword", "asr")) == "no reference answers"


def test_load_runs_has_agreement_and_categories(tmp_path):
    disagreeing(tmp_path, categories=True, unsafe=0.5)

    frame = load_runs(tmp_path)

    kappas = frame[(frame.metric == "kappa") & (frame.stage == 3)]
    assert set(kappas.set) == {*SAFETY, "all"} and set(kappas.judge) == {PAIR}
    category = frame[(frame.metric == "category_asr") & (frame.judge == "keyword")]
    assert set(category.set) == {f"{name}/{kind}" for name in SAFETY for kind in ("fraud", "privacy", "violence")}
    assert set(category.stage) == {0, 3}
    assert not frame.isna().any().any()
