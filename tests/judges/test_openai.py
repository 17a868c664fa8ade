"""A judge behind a real HTTP server of this machine that is well, down, slow, busy, or talks nonsense."""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from hpa_bench.errors import UserError
from hpa_bench.judges.base import make_judge
from hpa_bench.judges.endpoint import MOST_BYTES
from hpa_bench.judges.openai import parse_reply
from tests.support.endpoint import sensible, serving

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


KEY = "my-own-form-of-a-key-0123"
ECHOES = {
    "401": (401, {}, json.dumps({"error": f"Incorrect API key {KEY}"}).encode()),
    "400": (400, {}, f"bad request, authorization: Bearer {KEY}".encode()),
    "content": (200, {}, f"Your key is {KEY}."),
    "status line": (200, {}, lambda file: file.write(f"HTTP/1.1 401 {KEY}\r\nContent-Length: 0\r\n\r\n".encode())),
    "no status line": (200, {}, lambda file: file.write(f"{KEY}\r\n\r\n".encode())),
    "redirect": (302, {"Location": f"http://127.0.0.1:1/?key={KEY}"}, b""),
}


@pytest.mark.parametrize("way", ECHOES)
def test_a_key_that_the_endpoint_echoes_is_told_nowhere(judge, way, monkeypatch, caplog, capfd):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    with serving(lambda *_: ECHOES[way]) as endpoint:
        with pytest.raises(UserError) as caught:
            judge(endpoint.url, api_key_env="MY_KEY", retries=0).verdicts(ROWS[:1])
        assert endpoint.keys == [f"Bearer {KEY}"], "a line end of the variable is no part of the key"

    said = str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert KEY not in said and "\n" not in str(caught.value)
    assert ("[redacted]" in caplog.text) == (way in ("400", "content"))


@pytest.mark.parametrize(
    "address",
    [
        *("http://me:secret99@127.0.0.1/v1", "http://secret99@127.0.0.1/v1", "http://127.0.0.1/v1?api_key=secret99"),
        *("http://127.0.0.1/v1?secret99", "http://127.0.0.1/v1#secret99", "http://127.0.0.1/sk-secret990123456/v1"),
        *(
            "http://127.0.0.1/secret99-of-the-variable/v1",
            "http://secret99 .com/",
            "http://secret99:port/",
            "http://[secret99",
        ),
        *("ftp://secret99/v1", "secret99", "http://secret99\x1b[31m/v1"),
    ],
)
def test_an_address_with_a_key_is_refused_and_not_shown(judge, address, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret99-of-the-variable")
    with pytest.raises(UserError, match=r"base_url of judge 'openai': expected an address without user") as caught:
        judge(address, api_key_env="MY_KEY")
    assert "secret99" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["sk-proj-secret0123456789", "hf_secret0123456789abc", "secret", "A KEY", "K" * 40, "AKIAIOSFODNN7EXAMPLE", "''"],
)
def test_a_key_in_the_place_of_its_variable_is_refused_and_not_shown(judge, name):
    with pytest.raises(UserError, match=r"api_key_env of judge 'openai': expected the name of .* variable") as caught:
        judge("http://127.0.0.1:9/v1", api_key_env=name)
    assert name.strip("'") == "" or name not in str(caught.value)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "MY_KEY", "_K8S_KEY_2", "GPT4"])
def test_names_of_variables(judge, name):
    assert judge("http://127.0.0.1:9/v1", api_key_env=name)


@pytest.mark.parametrize(
    "options", [{"model": KEY}, {"body": json.dumps({"user": KEY})}, {"body": "{a: sk-0123456789abcd}"}]
)
def test_a_key_in_any_other_option_is_refused_and_not_shown(judge, options, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with pytest.raises(UserError, match="An option of judge 'openai' holds what looks like a key") as caught:
        judge("http://127.0.0.1:9/v1", api_key_env="MY_KEY", **options)
    assert KEY not in str(caught.value) and "sk-" not in str(caught.value)


@pytest.mark.parametrize("value", ["two\nlines-of-a-key", "schlüssel-1"])
def test_what_can_be_no_key_is_refused_before_anything_is_asked(judge, value, monkeypatch):
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(UserError, match="The environment variable MY_KEY of judge 'openai' holds no key") as caught:
        judge("http://127.0.0.1:9/v1", api_key_env="MY_KEY")
    assert value not in str(caught.value)


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


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DRIPPED = {
    "body": HEAD + b"Content-Length: 100000\r\n\r\n",
    "chunked body": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n",
    "body without an end": HEAD + b"\r\n",
    "headers": HEAD + b"X-Slow: ",
    "status line": b"HTTP/1.1 200 ",
}


def dripping(beginning, seconds=15):
    """Send the beginning of an answer, then a byte every tenth of a second, for no more than some seconds."""

    def send(file):
        file.write(beginning)
        for _ in range(10 * seconds):
            file.write(b" ")
            file.flush()
            time.sleep(0.1)

    return send


@pytest.mark.parametrize("part", DRIPPED)
def test_an_answer_that_drips_is_cut_off_in_time(judge, part):
    with serving(lambda *_: (200, {}, dripping(DRIPPED[part]))) as endpoint:
        began = time.monotonic()
        with pytest.raises(UserError, match=r"does not answer: no answer within 0\.5 s \(attempts: 2\)"):
            judge(endpoint.url, timeout=0.5, retries=1).verdicts(ROWS[:2])
        while left := [each for each in threading.enumerate() if "PoolExecutor" in each.name]:
            assert time.monotonic() - began < 8, left
            time.sleep(0.05)
    assert endpoint.asked <= 4


def test_an_answer_that_drips_outlives_no_time_limit_and_keeps_no_process(tmp_path):
    with serving(lambda *_: (200, {}, dripping(DRIPPED["body"]))) as endpoint:
        script = (
            "from hpa_bench.judges.base import make_judge\n"
            f"judge = make_judge('openai:model=m:time_limit=1:base_url={endpoint.url}:cache={tmp_path}')\n"
            f"judge.verdicts({ROWS[:2]!r})"
        )
        began = time.monotonic()
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        assert "asked for 1 s in all, its time_limit, and 0 of 2 questions" in ended.stderr
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("state", ["200 OK", "302 Found"])
def test_of_a_huge_answer_little_is_read(judge, state):
    sent = []

    def flood(file):
        head = HEAD.replace(b"200 OK", state.encode()) + b"Location: http://127.0.0.1:9/\r\n"
        file.write(head + b"Content-Length: 3000000000\r\n\r\n")
        while sum(sent) < 400 * MOST_BYTES:
            sent.append(file.write(b" " * 2**16))

    with serving(lambda *_: (200, {}, flood)) as endpoint:
        with pytest.raises(UserError, match=rf"does not answer: an answer of more than {MOST_BYTES} bytes"):
            judge(endpoint.url, retries=0).verdicts(ROWS[:1])
        assert sum(sent) < 100 * MOST_BYTES, "what the sockets hold, not what was announced"


def test_few_compressed_bytes_do_not_become_many(judge):
    packed = gzip.compress(b" " * (64 * MOST_BYTES))
    with serving(lambda *_: (200, {"Content-Encoding": "gzip"}, packed)) as endpoint:
        with pytest.raises(UserError, match="gave no verdict on 1 of the 1 questions asked"):
            judge(endpoint.url).verdicts(ROWS[:1])
        assert endpoint.headers[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(judge, status):
    with serving(sensible) as elsewhere, serving(lambda *_: (status, {}, b"")) as endpoint:
        endpoint.behaviour = lambda *_: (status, {"Location": f"{elsewhere.url}/chat/completions"}, b"")
        mine = judge(endpoint.url, concurrency=1)
        for _ in range(3):
            with pytest.raises(UserError, match=rf"refuses every request: HTTP {status} .*a redirect, .* not followed"):
                mine.verdicts(ROWS)
        assert endpoint.asked == 1 and elsewhere.paths == []


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_one_refusal_ends_the_judge_for_the_run(judge, status):
    with serving(lambda *_: (status, {}, b"no")) as endpoint:
        mine = judge(endpoint.url, concurrency=2)
        for part in (ROWS[:3], ROWS[3:], ROWS):
            with pytest.raises(UserError, match=f"refuses every request: HTTP {status}"):
                mine.verdicts(part)
        assert endpoint.asked <= 2, "those under way beside the first"


@pytest.mark.parametrize("asked", ["9" * 30, "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", "soon", "-5", "٣"])
def test_whatever_is_asked_for_the_wait_has_a_limit(judge, asked):
    def later(endpoint, question):
        return (503, {"Retry-After": asked}, b"") if endpoint.asked == 1 else sensible(endpoint, question)

    waits = asked[0] in "9F"
    with serving(later) as endpoint:
        began = time.monotonic()
        mine = judge(endpoint.url, time_limit=1 if waits else 60)
        if waits:
            with pytest.raises(UserError, match="asked for 1 s in all, its time_limit"):
                mine.verdicts(ROWS[:1])
        else:
            assert mine.verdicts(ROWS[:1]) == VERDICTS[:1]
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "sent",
    [
        *(b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_connection_that_breaks_is_one_sentence_in_no_words_of_the_endpoint(judge, sent):
    with serving(lambda *_: (200, {}, lambda file: file.write(sent))) as endpoint:
        with pytest.raises(UserError, match=r"does not answer: .* \(attempts: 2\)\.") as caught:
            judge(endpoint.url, retries=1).verdicts(ROWS[:1])
        assert endpoint.asked == 2
    assert "garbage" not in str(caught.value) and "half" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"choices": ' + b"9" * 10_000 + b"}"])
def test_json_that_no_parser_takes_is_no_verdict(judge, nested):
    no_verdict = pytest.raises(UserError, match="gave no verdict on 1 of the 1 questions asked")
    with serving(lambda *_: (200, {}, nested)) as endpoint, no_verdict:
        judge(endpoint.url).verdicts(ROWS[:1])


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
