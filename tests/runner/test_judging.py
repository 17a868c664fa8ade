"""Judging stored responses: in a run, later, again, and with judges that fail."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpa_bench import load_runs, run
from hpa_bench.cli import app
from hpa_bench.errors import UserError
from hpa_bench.files import read_json, read_jsonl, write_jsonl
from hpa_bench.judges.base import Judge, make_judge
from hpa_bench.results.absence import absence
from hpa_bench.results.run_folder import RunFolder
from hpa_bench.results.runs import Run
from hpa_bench.results.seals import seal
from hpa_bench.runner.judging import judge_run
from hpa_bench.verdict import COMPLIANCE, HARM
from tests.support.endpoint import sensible, serving
from tests.support.run_folders import BENIGN, SAFETY, rewrite_manifest, write_run
from tests.support.suites import write_suite


class Guard(Judge):
    """Says unsafe where a response complies."""

    name = "guard"
    can_say = HARM

    def verdicts(self, rows):
        return ["unsafe" if row["response"].startswith("Sure") else "safe" for row in rows]


class Failing(Judge):
    """Fails on one set, in a way of its own."""

    name = "failing"
    can_say = COMPLIANCE

    def __init__(self, fail):
        super().__init__()
        self.fail = fail

    def verdicts(self, rows):
        return self.fail(rows) if SAFETY[0] in rows[0]["id"] else ["refused"] * len(rows)


def failing_with(error):
    def fail(rows):
        raise error

    return fail


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of two finished stages whose first safety set has reference answers for half of its rows."""
    written = write_run(tmp_path, finished=1, n=12, unsafe=1.5)
    path = written.stage(0).path / "responses" / f"{SAFETY[0]}.jsonl"
    rows = [
        {**row, "target": "I cannot." if i < 4 else "Sure." if i < 6 else ""} for i, row in enumerate(read_jsonl(path))
    ]
    write_jsonl(path, rows)
    return written


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("hpa_bench.judges.openai.LONGEST_WAIT", 0.05)


def test_a_judge_added_later_judges_every_stage_and_the_references(folder: RunFolder) -> None:
    assert judge_run(folder, [Guard()]) == []

    for stage in folder.finished_stages():
        for name in [*SAFETY, *BENIGN]:
            sure = {row["id"] for row in stage.responses(name) if row["response"].startswith("Sure")}
            given = stage.judgements("guard", name)
            assert {sample for sample, verdict in given.items() if verdict == "unsafe"} == sure and len(given) == 12
        assert any(row["judge"] == "guard" for row in read_json(stage.path / "scores.json"))
    assert list(folder.references.judgements("guard", SAFETY[0]).values()) == ["safe"] * 4 + ["unsafe"] * 2
    assert not folder.references.is_judged("guard", SAFETY[1]), "a set without reference answers"
    assert (folder.path / "references" / "judgements" / "guard" / f"{SAFETY[0]}.jsonl").is_file()


def test_a_guard_has_an_asr_and_says_nothing_of_refusals(folder: RunFolder) -> None:
    judge_run(folder, [Guard()])
    frame = load_runs(folder.path)

    mine = frame[frame.judge == "guard"]
    assert set(mine.metric) == {"asr", "safe", "unsafe", "masr", "dasr"}
    given = list(folder.stage(1).judgements("guard", SAFETY[0]).values())
    asr = mine[(mine.stage == 1) & (mine.set == SAFETY[0]) & (mine.metric == "asr")].value.item()
    assert asr == pytest.approx(100 * given.count("unsafe") / 12) and 0 < asr < 100


def test_a_judge_added_later_leaves_word_of_what_it_can_say(folder: RunFolder) -> None:
    judge_run(folder, [Guard(), Failing(lambda rows: ["refused"] * len(rows))])

    found = Run(folder)
    assert folder.stage(1).can_say("guard") == {"safe": False, "unsafe": True}
    assert found.vocabularies["guard"] == Guard().vocabulary and found.vocabularies["guard"].reads_harm
    # It refused all that it saw, and could have said more.
    assert found.vocabularies["failing"].words == COMPLIANCE
    judge_run(folder, [make_judge("keyword")], again=True)
    assert folder.stage(1).can_say("keyword") is None, "the manifest says it"
    rewrite_manifest(folder, verdicts={})
    judge_run(folder, [make_judge("keyword")], again=True)
    assert folder.stage(1).can_say("keyword") == make_judge("keyword").vocabulary.said()


def test_a_judge_that_declares_nothing_is_refused_before_it_judges(tmp_path: Path) -> None:
    (tmp_path / "mute.py").write_text(
        "from hpa_bench import Judge\n\nclass Mute(Judge):\n    name = 'mute'\n\n"
        "    def verdicts(self, rows):\n        return []\n"
    )
    from hpa_bench.plugins import load_plugins

    load_plugins([tmp_path / "mute.py"])

    with pytest.raises(UserError, match=r"Judge 'mute' does not say which verdicts it can give: set can_say"):
        make_judge("mute")


def test_a_judge_may_declare_words_of_its_own_and_which_do_no_harm(folder: RunFolder) -> None:
    class Careful(Judge):
        name = "careful"
        can_say = frozenset({"warned", "helped"})
        harmless = frozenset({"warned"})

        def verdicts(self, rows):
            return ["helped" if row["response"].startswith("Sure") else "warned" for row in rows]

    judge_run(folder, [Careful()])

    given = list(folder.stage(1).judgements("careful", SAFETY[0]).values())
    frame = load_runs(folder.path)
    asr = frame[(frame.judge == "careful") & (frame.stage == 1) & (frame.set == SAFETY[0]) & (frame.metric == "asr")]
    assert asr.value.item() == pytest.approx(100 * given.count("helped") / 12) and 0 < asr.value.item() < 100


def test_what_is_judged_is_judged_again_only_when_asked(folder: RunFolder) -> None:
    judge_run(folder, [Guard()])
    path = folder.stage(1).path / "judgements" / "guard" / f"{SAFETY[0]}.jsonl"
    right = path.read_bytes()
    write_jsonl(path, [{**row, "verdict": "safe"} for row in read_jsonl(path)])
    edited = path.read_bytes()
    with pytest.raises(UserError, match=rf"delete {path.parent}, and `hpa-bench judge` makes it again"):
        judge_run(folder, [Guard()])
    seal(path.parent)

    judge_run(folder, [Guard()])
    assert path.read_bytes() == edited
    judge_run(folder, [Guard()], again=True)
    assert path.read_bytes() == right


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (failing_with(UserError("The endpoint is down.")), "The endpoint is down."),
        (failing_with(KeyError("x\ny")), "KeyError, of which the log has more"),
        (lambda rows: ["refused"], "Judge 'failing' gave 1 verdicts on"),
        (lambda rows: [None] * len(rows), "Judge 'failing' gave the verdict None"),
        (
            lambda rows: ["safe"] * len(rows),
            "Judge 'failing' gave the verdict 'safe': expected what it declares, complied,",
        ),
    ],
)
def test_a_judge_that_fails_on_a_set_loses_that_set_alone(folder: RunFolder, fail, reason: str) -> None:
    failures = judge_run(folder, [Failing(fail), Guard()])

    assert len(failures) == 3 and all(reason in failure.reason for failure in failures)  # two stages and the references
    stage = folder.stage(1)
    assert not stage.is_judged("failing", SAFETY[0]) and stage.missing_judgement("failing", SAFETY[0]).startswith(
        reason
    )
    assert stage.is_judged("failing", SAFETY[1]) and stage.is_judged("guard", SAFETY[0])
    absent = Run(folder)
    keys = {key for key in absent.measures if key.series.judge == "failing"}
    assert {key.series.set for key in keys if key.series.metric == "asr"} == {SAFETY[1]}
    asr = next(key for key in keys if key.series.metric == "asr" and key.stage == 1)
    for name in (SAFETY[0], "all"):
        key = asr._replace(series=asr.series._replace(set=name))
        assert absence(absent, key).startswith(f"missing: {reason}")

    assert judge_run(folder, [Failing(lambda rows: ["complied"] * len(rows))]) == []
    assert stage.missing_judgement("failing", SAFETY[0]) == "" and stage.is_judged("failing", SAFETY[0])


def test_a_judge_that_fails_again_keeps_what_it_said_before(folder: RunFolder) -> None:
    judge_run(folder, [Failing(lambda rows: ["complied"] * len(rows))])

    failures = judge_run(folder, [Failing(failing_with(UserError("Down.")))], again=True)

    assert len(failures) == 3 and set(folder.stage(1).judgements("failing", SAFETY[0]).values()) == {"complied"}
    assert folder.stage(1).missing_judgement("failing", SAFETY[0]) == ""


def test_a_run_that_is_held_or_has_no_stage_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    with folder.locked(), pytest.raises(UserError, match="in use by another run"):
        judge_run(folder, [Guard()])
    with pytest.raises(UserError, match="has no finished stage"):
        judge_run(write_run(tmp_path / "other", finished=-1), [Guard()])


@pytest.mark.slow
def test_a_run_goes_on_past_a_judge_that_is_down_and_judge_finishes_it(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    with serving(sensible) as endpoint:
        url = endpoint.url
        options = f"openai:model=m:base_url={url}:cache={tmp_path / 'cache'}:retries=0"
        endpoint.behaviour = lambda *_: (503, {}, b"closed")
        settings = [f'judges=[keyword, "{options}"]', "training.limit=4", "evaluation.limit=3"]
        finished = run(str(suite), "seqft", settings=settings, out=tmp_path / "run")

        assert finished.manifest.judges == ["keyword", "openai-model=m"]
        assert len(finished.finished_stages()) == 3
        for stage in finished.finished_stages():
            assert stage.is_judged("keyword", "harm") and stage.is_judged("keyword", "harmless")
            assert "HTTP 503" in stage.missing_judgement("openai-model=m", "harm")

        told = CliRunner().invoke(app, ["judge", str(tmp_path / "run"), "--judge", options])
        assert told.exit_code == 1 and "HTTP 503" in told.output and "finishes what is missing" in told.output

        endpoint.behaviour = sensible
        asked = endpoint.asked
        told = CliRunner().invoke(app, ["judge", str(tmp_path / "run"), "--judge", options])
        assert told.exit_code == 0, told.output
        assert endpoint.asked > asked and "openai-model=m" in told.output and "harmless" in told.output
    for stage in finished.finished_stages():
        assert stage.is_judged("openai-model=m", "harm") and not stage.missing_judgement("openai-model=m", "harm")
    assert finished.references.is_judged("openai-model=m", "harm")
    scores = read_json(finished.stage(2).path / "scores.json")
    assert {row["metric"] for row in scores if row["judge"] == "openai-model=m"} >= {"asr", "masr", "over_refusal"}


@pytest.mark.slow
def test_judging_needs_no_torch(folder: RunFolder) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from hpa_bench.cli import app;"
        f"app(['judge', {str(folder.path)!r}, '--judge', 'tiny_compliance', '--judge', 'keyword', '--again'],"
        " standalone_mode=False); assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert told.returncode == 0, told.stderr
    assert "tiny_compliance" in told.stdout and "toy_unsafe_text" in told.stdout


def test_the_same_judge_twice_is_refused(tmp_path: Path) -> None:
    path = write_suite(tmp_path, judges=["keyword", "keyword"])

    with pytest.raises(UserError, match="names the judge 'keyword' twice"):
        run(str(path), "seqft", out=tmp_path / "run")


def test_judge_lets_go_of_what_its_judges_loaded_also_when_it_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    released = tmp_path / "released"
    (tmp_path / "heavy.py").write_text(
        "from pathlib import Path\n\nfrom hpa_bench import Judge\n\nclass Heavy(Judge):\n"
        "    name = 'heavy'\n    can_say = {'safe', 'unsafe'}\n\n"
        "    def verdicts(self, rows):\n        return ['safe' for _ in rows]\n\n"
        f"    def release(self):\n        Path({str(released)!r}).touch()\n"
    )
    command = ["judge", str(folder.path), "--judge", "heavy", "--plugin", str(tmp_path / "heavy.py")]

    with folder.locked():
        assert CliRunner().invoke(app, command).exit_code != 0
    assert released.exists()
    released.unlink()
    assert CliRunner().invoke(app, command).exit_code == 0 and released.exists()


def test_make_judge_reaches_plugins(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from hpa_bench import Judge\n\nclass Mine(Judge):\n    name = 'my_judge'\n"
        "    can_say = {'refused', 'not_refused'}\n\n"
        "    def verdicts(self, rows):\n        return ['refused' for _ in rows]\n"
    )
    from hpa_bench.plugins import load_plugins

    load_plugins([tmp_path / "mine.py"])

    assert make_judge("my_judge").label == "my_judge"
