"""The noise floor: known spreads, and noise runs that enter nothing else."""

import math

import numpy as np
import pytest

from hpa_bench.errors import UserError
from hpa_bench.report import figures
from hpa_bench.report.noise import NoiseFloor, Spread
from hpa_bench.results.measures import Key
from hpa_bench.results.runs import load_runs, read_runs
from tests.support.noise import noise_run, with_noise
from tests.support.reports import AP, MASR, Visible, condition_of, printed, report_of, table
from tests.support.run_folders import write_run


def test_the_spread_is_that_of_the_repeats(tmp_path):
    runs = read_runs([noise_run(tmp_path, repeat) for repeat in (1, 2, 3, 4)])
    values = [run.measure(Key(3, AP)).value for run in runs]

    found = NoiseFloor("seqft", runs).spread(AP)

    assert isinstance(found, Spread)
    assert found.sd == pytest.approx(np.std(values, ddof=1)) and found.sd > 0
    assert (found.least, found.most, found.repeats) == (min(values), max(values), 4)
    # The quantiles of chi-squared with 3 degrees of freedom.
    assert found.low == pytest.approx(found.sd * math.sqrt(3 / 9.34840), rel=1e-4)
    assert found.high == pytest.approx(found.sd * math.sqrt(3 / 0.215795), rel=1e-4)


def test_seeds_are_no_noise(tmp_path):
    runs = read_runs([noise_run(tmp_path, repeat, seed=seed) for seed in (0, 1) for repeat in (1, 2)])
    values = [run.measure(Key(3, AP)).value for run in runs]

    found = NoiseFloor("seqft", runs).spread(AP)

    within = [np.var(values[:2], ddof=1), np.var(values[2:], ddof=1)]
    assert isinstance(found, Spread) and found.sd == pytest.approx(math.sqrt(np.mean(within)))


@pytest.mark.slow
def test_noise_runs_enter_no_mean_no_rank_and_no_test(tmp_path):
    plain, noisy = with_noise(tmp_path / "runs")
    without, beside = (report_of(runs, tmp_path / name) for name, runs in (("a", plain), ("b", [*plain, *noisy])))

    for name in ("results", "seeds", "stages", "differences", "costs"):
        assert table(without, name) == table(beside, name), name
    assert (without.parent / "tables/main.md").read_text() == (beside.parent / "tables/main.md").read_text()
    assert not (without.parent / "tables/noise.csv").exists()


@pytest.mark.slow
def test_the_noise_floor_stands_in_every_output(tmp_path):
    plain, noisy = with_noise(tmp_path / "runs")
    page = report_of([*plain, *noisy], tmp_path / "report")

    rows = {(row["method"], row["metric"]): row for row in table(page, "noise") if row["set"] == "all"}
    assert {method for method, _ in rows} == {"seqft"} and {"ap", "bwt", "masr"} <= {metric for _, metric in rows}
    ap = rows["seqft", "ap"]
    assert float(ap["range"]) == pytest.approx(float(ap["most"]) - float(ap["least"]), abs=2e-4)
    assert float(ap["low"]) < float(ap["sd"]) < float(ap["high"])
    said = "zero_shot has no trained parameter, and so none."
    assert said in Visible(page).text and said in (page.parent / "tables/noise.md").read_text()
    text = printed(read_runs([*plain, *noisy]))
    assert "noise floor, sd and range" in text and f"range {float(ap['range']):.1f}" in text
    assert "±2sdofonerun" not in Visible(page).text  # Drawn as paths.
    runs = [row for row in table(page, "runs") if row["noise"]]
    assert [(row["method"], row["seed"], row["noise"]) for row in runs] == [
        ("seqft", "0", str(n)) for n in (1, 2, 3, 4)
    ]


@pytest.mark.slow
def test_the_figures_have_a_box_and_a_band_where_there_is_noise(tmp_path):
    plain, noisy = with_noise(tmp_path / "runs")
    bare, with_floor = condition_of(plain), condition_of([*plain, *noisy])
    floor = with_floor.noise[0]

    (axes,) = figures.safety_against_accuracy(with_floor).axes
    (box,) = axes.patches
    assert box.get_width() == pytest.approx(4 * floor.spread(AP).sd)
    assert figures.safety_against_accuracy(bare).axes[0].patches[:] == []
    panels = {one.get_title(loc="left"): one for one in figures.safety_trajectory(with_floor).axes}
    bands = {name: len(one.collections) for name, one in panels.items()}
    assert bands == {"seqft": 2, "hpa": 1}
    path = panels["seqft"].collections[1].get_paths()[0].vertices[:, 1]
    assert path.max() == pytest.approx(max(floor.spread(MASR, stage).most for stage in range(4)))


def test_a_noise_run_alone_stands_for_itself_and_several_are_refused(tmp_path):
    noisy = [noise_run(tmp_path, repeat) for repeat in (1, 2)]

    assert [group.label for group in condition_of(noisy[:1]).main] == ["seqft, noise 1"]
    with pytest.raises(UserError, match="these 2 runs are noise runs, which no mean is over"):
        condition_of(noisy)
    plain = write_run(tmp_path / "plain", "seqft")
    with pytest.raises(UserError, match="are both noise run 1 of seqft with seed 0"):
        condition_of([plain, noisy[0], noise_run(tmp_path / "other", 1)])
    assert condition_of([plain, noisy[0]]).noise[0].spread(AP).startswith("missing: one noise run")


@pytest.mark.slow
def test_load_runs_says_which_runs_are_noise(tmp_path):
    with_noise(tmp_path / "runs")
    frame = load_runs(tmp_path / "runs").query("metric == 'ap'")

    assert sorted(frame["noise"]) == [0, 0, 0, 0, 0, 1, 2, 3, 4]
