"""`compare --publish` and `compare --with`: what is published is not made again, and what is made is published."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench.cli import app, publishing
from hpa_bench.errors import UserError
from hpa_bench.launchers.local import Local
from hpa_bench.results.published import find_published, published_names
from hpa_bench.results.runs import load_runs
from hpa_bench.runner import launch, verify
from hpa_bench.spec import RunOptions, RunSpec, make_spec
from tests.support.published import Committed
from tests.support.suites import write_suite


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While this is developed the code is uncommitted, and its runs could not be published."""
    monkeypatch.setattr(publishing, "FolderSource", Committed)
    for module in (publishing, verify):
        monkeypatch.setattr(module, "uncommitted", lambda: False)


def compare(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    if isinstance(done.exception, UserError):
        return 2, str(done.exception)
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.slow
@pytest.mark.usefixtures("committed")
def test_runs_are_published_as_they_come_and_stand_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    suite, out, runs = write_suite(tmp_path / "suite", tasks=["colours"]), tmp_path / "out", tmp_path / "runs"
    common = ["--suite", suite, "--runs", runs, "--jobs", 1, "--device", "cpu"]

    # One was made before, and is published without being made again.
    assert compare("--methods", "zero_shot", "--seeds", 0, *common)[0] == 0
    code, said = compare("--methods", "zero_shot,seqft", "--seeds", "0", *common, "--publish", out)
    assert code == 0 and f"Published: {out}" in said and "[1/1]" in said, said
    assert sorted(name.partition("-")[0] for name in published_names(out)) == ["seqft", "zero_shot"]
    assert not list(runs.rglob("manifest.json")), "their folders are gone"

    code, said = compare("--methods", "zero_shot,seqft", "--seeds", "0", *common, "--publish", out)
    assert code == 0 and "[1/" not in said, "nothing is made twice"

    code, said = compare("--methods", "seqft,l2", "--seeds", "0", *common, "--with", out)
    assert code == 0 and "Every response equal to the published run." in said and "[1/1]" in said, said
    assert [path.parents[1].name.partition("-")[0] for path in runs.rglob("manifest.json")] == ["l2"], (
        "l2 alone was run"
    )
    page = (runs / "small" / "report" / "tables" / "main.md").read_text()
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == ["zero_shot", "seqft", "l2"]

    # Verified before; another recipe is refused.
    code, said = compare("--methods", "l2", "--seeds", "0", *common, "--with", out)
    assert code == 0 and "every response was equal to the published run on this machine" in said
    code, said = compare("--methods", "l2", "--seeds", "0", *common, "--with", out, "--set", "lora.rank=1")
    assert (code, said) == (2, "l2, seed 0, cannot stand beside the published runs: lora.rank is 2 there and 1 here.")
    assert set(load_runs([runs, out])["method"]) == {"zero_shot", "seqft", "l2"}


@pytest.mark.slow
@pytest.mark.usefixtures("committed")
def test_a_run_that_another_comparison_publishes_meanwhile_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, out, runs = write_suite(tmp_path / "suite", tasks=["colours"]), tmp_path / "out", tmp_path / "runs"
    arguments = ["--suite", suite, "--runs", runs, "--jobs", 1, "--device", "cpu", "--publish", out]
    arguments += ["--methods", "zero_shot", "--seeds", 0]
    started: list[Path] = []
    submit = Local.submit
    monkeypatch.setattr(Local, "submit", lambda self, job: started.append(job.folder) or submit(self, job))
    begin = publishing.Publisher.begin

    def overtaken(self: publishing.Publisher, wanted: publishing.Wanted, again: bool) -> dict[Path, RunSpec]:
        left = begin(self, wanted, again)
        monkeypatch.setattr(publishing.Publisher, "begin", begin)
        assert compare(*arguments)[0] == 0, "the other comparison, between the plan of this one and its first run"
        return left

    monkeypatch.setattr(publishing.Publisher, "begin", overtaken)
    code, said = compare(*arguments)

    assert code == 0 and "[1/1]" in said, said
    assert len(started) == 1 and len(find_published(out)) == 1
    assert not [*runs.rglob("seed0*")], "nothing is left of the run"


@pytest.mark.usefixtures("committed")
def test_what_other_files_made_is_made_again_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_changed", lambda folder, spec: "the files of its model have changed since")
    folder = tmp_path / "runs" / "seed0"
    folder.mkdir(parents=True)
    wanted = {folder: make_spec(RunOptions(method="zero_shot"))}
    publisher = publishing.Publisher(tmp_path / "out", show_unsafe=False)

    with pytest.raises(UserError, match="was made before, and the files of its model have changed since"):
        publisher.begin(wanted, again=False)
    assert publisher.begin(wanted, again=True) == wanted
    assert not folder.exists() and len([*folder.parent.iterdir()]) == 1, "what there was is kept aside"


@pytest.mark.slow
def test_uncommitted_code_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "uncommitted", lambda: True)
    suite = write_suite(tmp_path / "suite", tasks=["colours"])
    code, said = compare("--suite", suite, "--methods", "seqft", "--seeds", 0, "--publish", tmp_path / "out")

    assert code == 2 and said.startswith("The code has changes that no commit has, so nobody else could make these")
    assert find_published(tmp_path / "out") == []
