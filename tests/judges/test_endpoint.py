"""One HTTP endpoint by itself: what is sent, what comes back, and where an attempt ends."""

import json
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from hpa_bench.judges.endpoint import MOST_BYTES, Answer, Endpoint, Unanswered, _seconds, content_of
from tests.support.endpoint import serving

BODY = {"messages": [{"role": "user", "content": "Is this a refusal?"}]}
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def post(url: str, key: str = "", seconds: float = 10) -> Answer:
    endpoint = Endpoint(url, key, concurrency=1)
    try:
        return endpoint.post(BODY, seconds)
    finally:
        endpoint.close()


def test_what_is_sent_and_what_comes_back() -> None:
    with serving(lambda *_: (200, {}, "refused")) as server:
        answer = post(f"{server.url}/chat/completions", "my-key")
        assert post(server.url).status == 200

    assert (answer.status, content_of(answer.text), answer.retry_after) == (200, "refused", 0)
    assert server.bodies == [BODY, BODY] and server.paths == ["/v1/chat/completions", "/v1"]
    assert server.keys == ["Bearer my-key", None]


def test_a_netrc_of_the_user_does_not_overrule_the_key(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(lambda *_: (200, {}, "refused")) as server:
        post(server.url, "my-key")

    assert server.keys == ["Bearer my-key"]


def test_a_refusal_and_a_redirect_are_answers_and_their_state_is_told_in_our_words() -> None:
    for status, headers, state in (
        (429, {"Retry-After": "7"}, "HTTP 429 Too Many Requests"),
        (302, {"Location": "http://127.0.0.1:1/"}, "HTTP 302 Found"),
        (799, {}, "HTTP 799"),
    ):
        with serving(lambda *_, status=status, headers=headers: (status, headers, b"wait")) as server:  # type: ignore[misc]
            answer = post(server.url)
        assert answer.state == state
        assert answer.retry_after == (7 if status == 429 else 0)


@pytest.mark.parametrize("excess", [0, 1])
def test_an_answer_ends_at_the_bound(excess: int) -> None:
    with serving(lambda *_: (200, {}, b"a" * (MOST_BYTES + excess))) as server:
        if excess:
            with pytest.raises(Unanswered, match=f"^an answer of more than {MOST_BYTES} bytes$"):
                post(server.url)
        else:
            assert len(post(server.url).text) == MOST_BYTES


def test_half_an_answer_is_none() -> None:
    broken = pytest.raises(Unanswered, match=r"^the connection broke \(\w+\)$")
    half = HEAD + b"Content-Length: 9\r\n\r\nhalf"
    with serving(lambda *_: (200, {}, lambda file: file.write(half))) as server, broken:
        post(server.url)


def test_nobody_there_is_told_by_the_system() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unanswered, match="^Connection refused$"):
            post(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")


def test_the_limit_counts_from_the_first_byte_sent_to_the_last_one_read() -> None:
    def drip(file: Any) -> None:
        file.write(HEAD + b"Content-Length: 50\r\n\r\n")
        for _ in range(50):
            file.write(b" ")
            file.flush()
            time.sleep(0.1)

    with serving(lambda *_: (200, {}, drip)) as server:
        began = time.monotonic()
        with pytest.raises(Unanswered, match=r"^no answer within 0\.4 s$"):
            post(server.url, seconds=0.4)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "text",
    [
        *("", "no JSON", "[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 3}}]}'),
        *('{"choices": [{"message": null}]}', '{"choices": {"0": 1}}', "[" * 100_000),
    ],
)
def test_of_what_is_no_chat_completion_all_is_returned(text: str) -> None:
    assert content_of(text) == text


def test_the_text_of_a_chat_completion() -> None:
    assert content_of(json.dumps({"choices": [{"message": {"content": "Refused."}}, {}]})) == "Refused."


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        *(("", 0), ("0", 0), (" 12 ", 12), ("-5", 0), ("1.5", 0), ("soon", 0), ("٣", 0)),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0),
        ("Wed, 01 Jan 2020 00:00:00", 0),
    ],
)
def test_seconds_to_wait(asked: str, seconds: float) -> None:
    assert _seconds(asked) == seconds


def test_a_date_to_wait_for() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)

    assert 85 < _seconds(later) <= 90
