"""Equal budgets from end to end: trials on validation rows, one file, and its settings beside the defaults."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.report.conditions import misfit
from hpa_bench.results.published import PublishedRun
from hpa_bench.results.run_folder import RunFolder, find_runs
from hpa_bench.results.runs import load_runs
from hpa_bench.results.tuned import TUNED, read_tuned
from hpa_bench.spec import RunOptions, make_spec
from tests.support.reports import Visible, table

PUBLISHED = Path(__file__).parents[2] / "reports" / "tiny" / TUNED
SMALL = ["--set", "tasks=[tiny_ad, tiny_fin]", "--set", "training.limit=32", "--set", "evaluation.limit=4"]
SMALL += ["--set", "training.learning_rate=0.02"]  # Settings then differ after a few steps.
STRANGER = '''
from typing import Annotated

from hpa_bench import Method, MethodConfig, Tunable


class TwoConfig(MethodConfig):
    """One strength, of a stranger's."""

    scale: Annotated[float, Tunable(choices=(1.0, 2.0))] = 1.0
    """1, or 2 and a failure."""


class Two(Method):
    """Fails where its scale is 2."""

    name = "two"
    Config = TwoConfig

    def adapt(self, before, after, ctx):
        if self.config.scale == 2:
            raise RuntimeError("too much")
        return ()
'''


def invoked(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments, "--jobs", "2"])
    return result.exit_code, result.output


@pytest.mark.slow
def test_methods_get_their_trials_and_the_best_run_beside_the_defaults(tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    arguments = ["tune", "--methods", "wise_ft,seqft", "--trials", "3", *SMALL, "--out", str(out)]
    code, said = invoked(*arguments)

    assert code == 0, said
    assert "3 runs, 0 finished before." in said and "seqft: not tuned: it declares no strength to tune" in said
    tuned = read_tuned(out / "tiny.json")
    (method,) = tuned.methods.values()
    assert [trial.seed for trial in method.trials] == tuned.seeds and (tuned.trials, tuned.split) == (3, "validation")
    assert method.trials[0].settings == {} and all(0.1 <= one.settings["a"] <= 0.9 for one in method.trials[1:])
    best = max(method.trials, key=lambda trial: trial.objective)
    assert method.chosen == best.settings and method.numerics and method.space == {"a": "0.1 to 0.9"}
    for trial in method.trials:
        frame = load_runs(out / trial.run).query("stage == 2 and set == 'all'").set_index(["judge", "metric"])["value"]
        ap, masr = frame["", "ap"], frame["keyword", "masr"]
        over = frame["keyword", "over_refusal"]
        assert trial.objective == pytest.approx(ap - masr - over, abs=1e-3)
        suite = RunFolder(out / trial.run).manifest.suite_config
        assert suite["evaluation"]["split"] == "validation"

    # A killed call goes on: what is unfinished is finished, the rest stays.
    (find_runs([out])[0].path / "stage2" / "DONE").unlink()
    code, said = invoked(*arguments)
    assert code == 0 and "3 runs, 2 finished before." in said
    assert read_tuned(out / "tiny.json").methods["wise_ft"].trials == method.trials
    changed = {"methods": {"wise_ft": {**json.loads((out / "tiny.json").read_text())["methods"]["wise_ft"]}}}
    changed["methods"]["wise_ft"]["chosen"] = {"a": 0.2}
    file = tmp_path / "other.json"
    file.write_text(json.dumps(json.loads((out / "tiny.json").read_text()) | changed))
    compare = ["compare", "--methods", "wise_ft,zero_shot", "--seeds", "0", *SMALL, "--runs", str(tmp_path / "runs")]
    code, said = invoked(*compare, "--tuned", str(file))

    assert code == 0, said
    frame = load_runs(tmp_path / "runs")
    assert set(frame["label"]) == {"wise_ft", "wise_ft (a=0.2)", "zero_shot"}
    assert "defaults and tuned, 3 trials a method" in " ".join(said.split())
    assert "tuned:" in said and "a=0.2" in said
    page = tmp_path / "runs" / "tiny" / "report" / "report.html"
    rows = [row for row in table(page, "tuned") if row["metric"] == "ap"]
    assert [(row["method"], row["setting"], row["seeds"]) for row in rows] == [
        ("wise_ft", "defaults", "1"),
        ("wise_ft", "tuned: a=0.2", "1"),
    ]
    assert float(rows[1]["difference"]) == pytest.approx(float(rows[1]["value"]) - float(rows[0]["value"]), abs=1e-3)
    assert [row["trial"] for row in table(page, "trials")] == ["1", "2", "3"]
    assert "3 trials of each of 1 method, one seed each" in Visible(page).text
    assert (page.parent / "figures" / "trials.svg").exists()
    again = tmp_path / "again"
    result = CliRunner().invoke(app, ["report", str(tmp_path / "runs"), "--tuned", str(file), "--out", str(again)])
    assert result.exit_code == 0, result.output
    for folder in (page.parent, again):
        assert "| `wise_ft` |" in (main := (folder / "tables" / "main.md").read_text()) and "a=0.2" not in main


@pytest.mark.slow
def test_a_strangers_trials_may_fail_and_a_small_space_ends_early(tmp_path: Path) -> None:
    plugin = tmp_path / "two.py"
    plugin.write_text(STRANGER)
    out = tmp_path / "tuned"
    code, said = invoked("tune", "--plugin", str(plugin), "--methods", "two", *SMALL, "--out", str(out))

    assert code == 1
    assert "RuntimeError: too much" in said
    (method,) = read_tuned(out / "tiny.json").methods.values()
    default, failed = method.trials
    assert method.chosen == {} and default.objective is not None
    assert failed.objective is None and failed.missing.endswith("RuntimeError: too much")

    with pytest.raises(UserError, match="has other trials than this call: use the same, or another --out"):
        arguments = ["tune", "--plugin", str(plugin), "--methods", "two", "--trials", "9", *SMALL, "--out", str(out)]
        CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--set", "training.learning_rate=1"], "training.learning_rate is 0.00065 there and 1.0 here"),
        (["--suite", "small"], "suite is 'tiny' there and 'small' here"),
    ],
)
def test_settings_of_other_trials_are_refused_before_any_run(
    changed: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compare = ["compare", "--methods", "seqft", "--seeds", "0", "--tuned", str(PUBLISHED), *changed]
    with pytest.raises(UserError) as caught:
        CliRunner().invoke(app, compare, catch_exceptions=False)

    assert str(caught.value) == (
        f"The settings were tuned for other runs than these ({told}): give the file of trials with the same, or none."
    )


def test_the_published_trials_are_of_the_published_runs() -> None:
    tuned = read_tuned(PUBLISHED)
    runs = [PublishedRun(file).manifest for file in PUBLISHED.parent.glob("results/seqft-*/seed0.parquet")]

    assert "" in [misfit(tuned, run.suite, run.suite_config) for run in runs]
    assert misfit(tuned, "tiny", make_spec(RunOptions()).identity()["suite_config"]) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "--methods", "l2", "--set", "evaluation.split=test"], "cannot be chosen here: tune scores on valid"),
        (["tune", "--methods", "l2", "--set", "strength=3"], r"give it after the method's name, as in l2:strength="),
        (["tune", "--methods", "seqft,joint"], "None of seqft, joint can be tuned: none declares a strength"),
        (["compare", "--methods", "l2", "--tuned", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_what_does_not_belong_here_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
