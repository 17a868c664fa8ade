"""Text that leaves: without keys, and without what would act on a screen."""

import pytest

from hpa_bench import redact
from hpa_bench.errors import UserError
from hpa_bench.judges.base import Judge
from hpa_bench.redact import clean, csv_cell, hide, redacted, visible
from hpa_bench.runner.events import LOG, EventLog, Events, read_log, told
from hpa_bench.runner.judging import judge_run
from hpa_bench.verdict import REFUSALS
from tests.support.run_folders import SAFETY, write_run

LEAKS = [
    *("sk-proj-abcdef0123456789", "sk-abc****************wxyz", "hf_abcdefghijklmnop", "ghp_abcdefghijklmnop"),
    *("AKIAIOSFODNN7EXAMPLE", "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4"),
]


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch):
    monkeypatch.setattr(redact, "_secrets", set())


@pytest.mark.parametrize("leak", LEAKS)
def test_what_looks_like_a_key_is_redacted(leak):
    assert redacted(f"Incorrect key {leak}.") in ("Incorrect key [redacted].", "Incorrect key [redacted]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pass@host/v1", "http://[redacted]@host/v1"),
        ("https://host/v1?a=1&api_key=abc#x", "https://host/v1?a=1&api_key=[redacted]#x"),
        ("Authorization: Bearer abcdefgh0123", "Authorization: Bearer [redacted]"),
        ('{"api_key": "abcdefgh0123", "b": 1}', '{"api_key": "[redacted]", "b": 1}'),
    ],
)
def test_what_is_named_as_a_key_is_redacted(text, shown):
    assert redacted(text) == redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("task-specific-learning-rate", "finds no API key: set OPENAI_API_KEY", "openai:api_key_env=MY_KEY"),
        *("runs/tiny/hpa-80a02e6f/seed0", "mail me@example.org", "a token: <image>", "the bearer of news", "a" * 64),
    ],
)
def test_other_text_stays(text):
    assert clean(text) == text


def test_a_known_secret_is_hidden_in_any_text_and_quoted_in_addresses():
    hide("a form/of its own")
    hide("EMPTY")

    assert redacted("x a form/of its own x a%20form%2Fof%20its%20own EMPTY") == "x [redacted] x [redacted] EMPTY"


def test_what_acts_on_a_screen_is_made_visible():
    assert (
        visible("\x1b[2Jred\x07 a\rb \x9b1m \u202etxt\u2066 \ud800 \x7f")
        == "␛[2Jred␇ a␍b \ufffd1m \ufffdtxt\ufffd \ufffd ␡"
    )
    assert visible("line\r\nline\tä 漢 🐕 עברית") == "line\r\nline\tä 漢 🐕 עברית"


class Leaking(Judge):
    """Fails with a key and an escape sequence in its message."""

    name = "leaking"
    can_say = REFUSALS

    def __init__(self, error):
        super().__init__()
        self.error = error

    def verdicts(self, rows):
        raise self.error


@pytest.mark.parametrize("kind", [UserError, ValueError])
def test_reasons_that_a_run_keeps(tmp_path, caplog, kind):
    error = kind(f"\x1b[2J refused: key {LEAKS[0]}")
    run = write_run(tmp_path, finished=0)
    [failure, *_] = judge_run(run, [Leaking(error)])
    with pytest.raises(kind), run.recording_failure():
        raise error

    kept = run.stage(0).missing_judgement("leaking", SAFETY[0])
    failed = (run.path / "FAILED").read_text()
    assert kept == failure.reason
    for text in (kept, failed, caplog.text):
        assert LEAKS[0] not in text and "\x1b" not in text
    assert "␛[2J refused: key [redacted]" in failed
    assert "␛[2J refused: key [redacted]" in (kept if kind is UserError else caplog.text)


def test_reasons_that_observers_and_the_log_of_a_run_get(tmp_path):
    said = f"\x1b[2J refused: key {LEAKS[0]}"
    events = Events([EventLog(tmp_path)])
    with pytest.raises(UserError), told(events):
        events.warn(said)
        raise UserError(said)

    assert [row.get("text") or row["reason"] for row in read_log(tmp_path / LOG)] == 2 * [
        "␛[2J refused: key [redacted]"
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", " =1", "\t=1", "-x", "＝1"])
def test_no_cell_is_a_formula(text):
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-3.2, 5, None, "-3.2", "+4", "-1e-05", "-.5", "-12.5%", "-", "–", "hpa", "a=b", ""])
def test_numbers_and_words_are_cells_as_they_are(value):
    assert csv_cell(value) == value
