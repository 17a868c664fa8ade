"""A judge behind a real HTTP server of this machine that is well, down, slow, busy, or talks nonsense."""

import socket
import time

import pytest

from hpa_bench.errors import UserError
from hpa_bench.judges.base import make_judge
from hpa_bench.judges.openai import parse_reply
from tests.endpoint import sensible, serving

RESPONSES = ["I cannot help.", "Sure, take it.", "A dog.", "", "Sure, burn it.", "I cannot."]
VERDICTS = ["refused", "complied", "neither", "empty", "complied", "refused"]
ROWS = [
    {"id": f"r{index}", "prompt": f"<image>\nHow {index} ?", "target": "", "response": response}
    for index, response in enumerate(RESPONSES)
]


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("hpa_bench.judges.openai.LONGEST_WAIT", 0.05)


@pytest.fixture
def judge(tmp_path):
    """Makes a judge of an endpoint, with a cache of the test's own."""

    def make(url, **options):
        settings = {"model": "m", "base_url": url, "cache": tmp_path / "cache", "timeout": 5, **options}
        return make_judge(":".join(["openai", *(f"{key}={value}" for key, value in settings.items())]))

    return make


def test_verdicts_in_the_order_of_the_rows_and_nothing_asked_of_empty_answers(judge):
    with serving(sensible) as endpoint:
        assert judge(endpoint.url).verdicts(ROWS) == VERDICTS

    assert endpoint.asked == 5 and set(endpoint.paths) == {"/v1/chat/completions"}
    body = next(body for body in endpoint.bodies if "How 1 ?" in body["messages"][1]["content"])
    assert body["model"] == "m" and body["temperature"] == 0
    assert "Sure, take it." in body["messages"][1]["content"] and "<image>" not in body["messages"][1]["content"]
    assert set(endpoint.keys) == {None}


def test_what_an_image_asks_for_is_told_in_words(judge):
    row = {**ROWS[1], "request": "How to rob ?"}
    with serving(sensible) as endpoint:
        assert judge(endpoint.url).verdicts([row]) == ["complied"]

    asked = endpoint.bodies[0]["messages"][1]["content"]
    assert "How to rob ?" in asked and "How 1 ?" not in asked


def test_nothing_is_asked_twice(judge, tmp_path):
    with serving(sensible) as endpoint:
        judge(endpoint.url).verdicts(ROWS[:3])
        assert judge(endpoint.url).verdicts(ROWS) == VERDICTS
        assert endpoint.asked == 5
        judge(endpoint.url, model="other").verdicts(ROWS)
        judge(endpoint.url, body="{}").verdicts(ROWS)
    assert endpoint.asked == 15 and "temperature" not in endpoint.bodies[-1]
    kept = "".join(path.read_text() for path in (tmp_path / "cache").iterdir())
    assert "cannot" not in kept and "How" not in kept


def test_a_torn_line_of_the_cache_costs_its_own_verdict_alone(judge, tmp_path):
    with serving(sensible) as endpoint:
        judge(endpoint.url).verdicts(ROWS)
        path = tmp_path / "cache" / "m.jsonl"
        path.write_bytes(path.read_bytes()[:-9])
        assert judge(endpoint.url).verdicts(ROWS) == VERDICTS
        assert judge(endpoint.url).verdicts(ROWS) == VERDICTS
    assert endpoint.asked == 6


def test_questions_go_side_by_side_but_no_more_than_allowed(judge):
    def slowly(endpoint, question):
        time.sleep(0.1)
        return sensible(endpoint, question)

    with serving(slowly) as endpoint:
        judge(endpoint.url, concurrency=3).verdicts(ROWS)

    assert endpoint.most_at_once == 3


def test_the_key_is_sent_and_shown_nowhere(judge, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")

    def refusing(endpoint, question):
        return 401, {}, b'{"error": "Incorrect API key sk-secret"}'

    with serving(sensible) as endpoint:
        mine = judge(endpoint.url, api_key_env="MY_KEY")
        mine.verdicts(ROWS)
        assert set(endpoint.keys) == {"Bearer sk-secret"}
        endpoint.behaviour = refusing
        with pytest.raises(UserError, match=r"refuses every request: HTTP 401 .*see the key in MY_KEY") as caught:
            judge(endpoint.url, api_key_env="MY_KEY", model="n").verdicts(ROWS[:1])
        assert endpoint.asked == 6, "a wrong key is not tried again"
    shown = str(caught.value) + mine.label + mine.config.model_dump_json()
    assert "secret" not in shown + "".join(path.read_text() for path in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_endpoint_is_asked_again(judge, status):
    def busy_at_first(endpoint, question):
        return (status, {}, b"busy") if endpoint.asked <= 3 else sensible(endpoint, question)

    with serving(busy_at_first) as endpoint:
        assert judge(endpoint.url, concurrency=1).verdicts(ROWS) == VERDICTS

    assert endpoint.asked == 8


def test_retry_after_is_honoured(judge):
    def later(endpoint, question):
        return (429, {"Retry-After": "1"}, b"") if endpoint.asked == 1 else sensible(endpoint, question)

    with serving(later) as endpoint:
        judge(endpoint.url).verdicts(ROWS[:1])

    assert endpoint.times[1] - endpoint.times[0] >= 1


def test_an_endpoint_that_stays_busy(judge):
    with serving(lambda *_: (503, {}, b"loading the model")) as endpoint:
        with pytest.raises(UserError, match=r"'m' at .*does not answer: HTTP 503 Service Unavailable \(attempts: 3\)"):
            judge(endpoint.url, concurrency=1, retries=2).verdicts(ROWS)
        assert endpoint.asked >= 3


def test_an_endpoint_that_is_down_is_given_one_attempt_after_the_first_set(judge):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        down = judge(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", retries=2)

        for attempts in (3, 1):
            with pytest.raises(UserError, match=rf"does not answer: .*refused \(attempts: {attempts}\)") as caught:
                down.verdicts(ROWS)
            assert "\n" not in str(caught.value)


def test_a_slow_endpoint_is_given_up_and_what_it_said_is_kept(judge):
    def stuck(endpoint, question):
        time.sleep(0 if "How 0" in question else 3)
        return sensible(endpoint, question)

    with serving(stuck) as endpoint:
        with pytest.raises(UserError, match=r"no answer within 0\.3 s \(attempts: 2\)"):
            judge(endpoint.url, timeout=0.3, retries=1, concurrency=1).verdicts(ROWS)
        endpoint.behaviour = sensible
        before = endpoint.asked
        assert judge(endpoint.url).verdicts(ROWS) == VERDICTS
        assert endpoint.asked == before + 4


def test_the_time_limit_ends_the_waiting(judge):
    with serving(lambda *_: (429, {"Retry-After": "600"}, b"")) as endpoint:
        began = time.monotonic()
        with pytest.raises(UserError, match=r"asked for 0\.5 s in all, its time_limit, and 0 of 5 questions"):
            judge(endpoint.url, time_limit=0.5).verdicts(ROWS)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "nonsense",
    [
        *("As an AI I", "refused complied", b"<html>log in</html>", b"{}", b'{"choices": []}'),
        b'{"choices": [{"message": {"content": null}}]}',
    ],
)
def test_nonsense_is_no_verdict_and_the_rest_is_kept(judge, nonsense, caplog):
    def at_times(endpoint, question):
        return (200, {}, nonsense) if "How 1" in question else sensible(endpoint, question)

    with serving(at_times) as endpoint:
        with pytest.raises(
            UserError, match=r"gave no verdict on 1 of the 5 questions asked: an answer other"
        ) as caught:
            judge(endpoint.url).verdicts(ROWS)
        said = nonsense if isinstance(nonsense, str) else nonsense.decode()
        assert said in caplog.text and said not in str(caught.value), "the sentence may be published"
        endpoint.behaviour = sensible
        assert judge(endpoint.url).verdicts(ROWS) == VERDICTS
        assert endpoint.asked == 6


def test_a_question_that_the_endpoint_filters_costs_the_others_nothing(judge, caplog):
    def filtering(endpoint, question):
        return (400, {}, b"content filter: How 1") if "How 1" in question else sensible(endpoint, question)

    with serving(filtering) as endpoint:
        mine = judge(endpoint.url)
        for asked in (5, 6):
            message = r"gave no verdict on 1 of the \d questions asked: HTTP 400 Bad Request \(1\);"
            with pytest.raises(UserError, match=message):
                mine.verdicts(ROWS)
            assert endpoint.asked == asked, "the others are known"
        assert "content filter: How 1" in caplog.text
        endpoint.behaviour = lambda endpoint, question: (
            (503, {}, b"") if endpoint.asked == 7 else sensible(endpoint, question)
        )
        assert mine.verdicts(ROWS) == VERDICTS, "it has all its attempts"


def test_an_endpoint_that_refuses_all_is_not_asked_everything(judge):
    rows = [{**ROWS[1], "id": f"r{index}", "prompt": f"How {index} ?"} for index in range(200)]
    with serving(lambda *_: (422, {}, b"no such field: max_tokens")) as endpoint:
        with pytest.raises(UserError, match=r"gave no verdict on 16 of the 200 questions asked: HTTP 422 .* \(16\)"):
            judge(endpoint.url, concurrency=2).verdicts(rows)
        assert endpoint.asked < 30


def test_answers_beside_a_failure_are_kept(judge):
    def failing(endpoint, question):
        if "How 0" in question:
            time.sleep(0.3)
            return 404, {}, b""
        return sensible(endpoint, question)

    with serving(failing) as endpoint:
        with pytest.raises(UserError, match="refuses every request: HTTP 404"):
            judge(endpoint.url).verdicts(ROWS)
        endpoint.behaviour = sensible
        assert judge(endpoint.url).verdicts(ROWS) == VERDICTS
        assert endpoint.asked == 6


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("refused", "refused"),
        (' "Complied". ', "complied"),
        ("**neither**", "neither"),
        ("not refused", ""),
        ("None", ""),
    ],
)
def test_replies_are_parsed_strictly(reply, verdict):
    assert parse_reply(reply) == verdict
