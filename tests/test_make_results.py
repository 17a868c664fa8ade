"""The series of the published report: every step is a call of `compare` that can be made, and small ones are made."""

import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import psutil
import pytest
import yaml

from hpa_bench.errors import UserError
from hpa_bench.method import methods
from hpa_bench.results.published import find_published
from hpa_bench.results.tuned import TUNED, read_tuned
from hpa_bench.spec import RunOptions, make_spec
from tests.support.suites import write_suite
from tests.support.tuned import method, trial, tuned

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports"
SERIES = REPORTS / "tiny" / "series.yaml"
_spec = importlib.util.spec_from_file_location("make_results", ROOT / "scripts" / "make_results.py")
assert _spec is not None and _spec.loader is not None
make_results = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_results)


@pytest.mark.slow
@pytest.mark.parametrize(("report", "fewest"), [("tiny", 40), ("small", 12)])
def test_every_step_of_a_published_series_can_be_made(
    report: str, fewest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    series = make_results.read_series(REPORTS / report / "series.yaml")
    folders: dict[Path, str] = {}
    for step in (step for step in series.steps if not step.trials):
        named = [name for name in step.methods if name != "all"]
        for name, order, ratio in product(named, step.order or [None], step.harmful_ratio or [0.0]):
            options = RunOptions(series.suite, name, 0, step.set, order, ratio)
            folders[make_spec(options, model=False).default_folder(Path())] = step.name
    assert len(folders) > fewest and len(series.steps) == len({step.name for step in series.steps})


def test_the_published_series_tunes_every_method_before_it_runs_the_tuned() -> None:
    steps = make_results.read_series(SERIES).steps
    trials = next(step for step in steps if step.trials)
    named = {name for names in trials.methods for name in names.split(",")}

    assert {name for name in named if ":" not in name} == {*methods.names()}
    assert [step.name for step in steps if step.tuned] == ["as tuned"]
    assert [step.name for step in steps].index(trials.name) < [step.name for step in steps].index("as tuned")


def test_a_steps_options_are_those_of_compare() -> None:
    step = make_results.Step(name="a", methods=["hpa", "l2:strength=3"], seeds="0-4", harmful_ratio=[0.01], noise=3)

    expected = "--suite tiny --methods hpa,l2:strength=3 --seeds 0-4 --harmful-ratio 0.01 --noise 3"
    assert make_results.arguments("tiny", step) == expected.split()


def test_a_signal_ends_what_is_called(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); from make_results import run_command\n"
    child = f"import pathlib, time; pathlib.Path({str(tmp_path / 'begun')!r}).touch(); time.sleep(100)"
    script += f"run_command([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", script])
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.05)
    (child_process,) = psutil.Process(process.pid).children()
    process.terminate()

    assert process.wait(30) == 128 + signal.SIGTERM
    assert not child_process.is_running()


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "series.yaml"
    path.write_text("suite: tiny\nsteps:\n- {name: a, methods: [hpa], seeds: 0-1, seed: 3}\n")

    with pytest.raises(UserError, match=r"Unknown key 'steps.0.seed' in .*series.yaml"):
        make_results.read_series(path)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("", "expected seeds, or trials"),
        (", seeds: 0-1, trials: 8", "trials go with a name and methods alone"),
        (", trials: 8, set: [tasks=null]", "trials go with a name and methods alone"),
    ],
)
def test_a_step_that_is_neither_of_compare_nor_of_tune_is_refused(keys: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "series.yaml"
    path.write_text(f"suite: tiny\nsteps:\n- {{name: a, methods: [hpa]{keys}}}\n")

    with pytest.raises(UserError, match=sentence) as caught:
        make_results.read_series(path)
    assert "\n" not in str(caught.value)


def test_trials_are_published_where_one_fails_and_beside_what_came_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = tmp_path / "out" / TUNED
    failed = trial(0, 0, s=9).model_copy(update={"scores": {}, "objective": None, "missing": "missing: loss is NaN"})
    called: list[str] = []

    def call(*arguments: str) -> int:
        options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        called.append(name := options["--methods"])
        for file, of in ((Path(options["--out"]) / "tiny.json", name), (published, "meanwhile")):
            earlier = read_tuned(file) if file.exists() else None
            if name != "broken":
                tuned(**{of: method(trial(50, 40), failed)}).beside(earlier).write(file)
        return 1

    monkeypatch.setattr(make_results, "ROOT", tmp_path)
    monkeypatch.setattr(make_results, "call", call)
    step = make_results.Step(name="trials", methods=["l2", "broken", "ewc"], trials=2)

    assert make_results.tune("tiny", step, published, Path("runs"), []), "one entry has no trials"
    assert {*read_tuned(published).methods} == {"l2", "meanwhile", "ewc"}
    assert called == ["l2", "l2", "broken", "broken", "ewc", "ewc"], "what fails is tried once more"
    whole = step.model_copy(update={"methods": ["l2", "ewc"]})
    assert not make_results.tune("tiny", whole, published, Path("runs"), []) and len(called) == 6


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    """A clone of this checkout with all its code in a commit, whatever is being changed here."""
    folder = tmp_path / "frozen"
    ignored = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    for name in ignored.stdout.decode().splitlines():
        if (ROOT / name).is_file() and not name.startswith(("reports/tiny/", "tests/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "frozen"]):
        subprocess.run(["git", *who, *command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_a_series_is_made_published_and_gone_on_with(frozen: Path, tmp_path: Path) -> None:
    suite, out = write_suite(tmp_path / "suite", tasks=["colours"]), tmp_path / "out"
    series = {"suite": str(suite), "steps": [{"name": "one", "methods": ["zero_shot", "seqft"], "seeds": "0"}]}
    path = tmp_path / "series.yaml"

    def make(*more: str) -> subprocess.CompletedProcess[str]:
        path.write_text(yaml.safe_dump(series))
        # The clone's own package, not the one that is installed.
        command = [sys.executable, "scripts/make_results.py", "--series", str(path), "--out", str(out), *more]
        environment = {"PYTHONPATH": str(frozen), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
        return subprocess.run(command, cwd=frozen, capture_output=True, text=True, env=environment)

    done = make()
    assert done.returncode == 0, done.stdout + done.stderr
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=frozen, capture_output=True, text=True).stdout.strip()
    assert [run.manifest.git_commit for run in find_published(out)] == [commit] * 2

    series["steps"].append({"name": "two", "methods": ["zero_shot", "failing"], "seeds": "0"})
    done = make()
    assert done.returncode == 1 and "Not complete: two. The same command goes on." in done.stderr, done.stdout
    assert "[1/" not in done.stdout, "what is published is not made again"

    (frozen / "baselines" / "new.py").write_text("")
    done = make()
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The code has changes that no commit has")


@pytest.mark.slow
def test_trials_are_published_by_entry_and_chosen_settings_are_run(frozen: Path, tmp_path: Path) -> None:
    suite, out = write_suite(tmp_path / "suite", tasks=["colours"]), tmp_path / "out"
    for task in (suite.parent / "tasks").glob("*.yaml"):
        task.write_text(f"{task.read_text()}validation_split: train\n")
    path = tmp_path / "series.yaml"
    trials = {"name": "trials", "methods": ["seqft,wise_ft"], "trials": 2}

    def make(*steps: dict[str, object]) -> str:
        path.write_text(yaml.safe_dump({"suite": str(suite), "steps": list(steps)}))
        command = [sys.executable, "scripts/make_results.py", "--series", str(path), "--out", str(out)]
        environment = {"PYTHONPATH": str(frozen), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
        done = subprocess.run(command, cwd=frozen, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    make(trials)
    tuned = read_tuned(out / "tuned.json")
    assert len(tuned.methods["wise_ft"].trials) == 2 and [*tuned.untuned] == ["seqft"]

    # As on another machine, which has the published file alone.
    shutil.rmtree(frozen / "runs")
    chosen = tuned.methods["wise_ft"].model_copy(update={"chosen": {"a": 0.9}})
    tuned.model_copy(update={"methods": {"wise_ft": chosen}}).write(out / "tuned.json")
    trials["methods"] = ["seqft,wise_ft", "l2"]
    said = make(trials, {"name": "as tuned", "methods": ["wise_ft"], "seeds": "0", "tuned": True})
    assert "wise_ft: a=" not in said, "what is published is not tuned again"
    assert [*read_tuned(out / "tuned.json").methods] == ["wise_ft", "l2"]
    assert {run.manifest.config["a"] for run in find_published(out)} == {0.5, 0.9}
