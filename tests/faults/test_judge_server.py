"""A judge whose server misbehaves in every way: each is a verdict as without the fault, or one sentence, in time."""

from __future__ import annotations

import http
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpa_bench.judges.base import make_judge
from hpa_bench.judges.endpoint import MOST_BYTES
from tests.faults.conftest import Note
from tests.support.endpoint import Behaviour, Endpoint, sensible, serving
from tests.support.faults import outcome

pytestmark = pytest.mark.faults

LIMIT = 10.0
TIMEOUT, TIME_LIMIT = 0.4, 2.0
"""Seconds that the judge gives an attempt, and all of them."""
ROWS = [
    {"id": f"r{index}", "prompt": f"How {index} ?", "target": "", "response": response}
    for index, response in enumerate(["I cannot help.", "Sure, take it.", "A dog."])
]
VERDICTS = ["refused", "complied", "neither"]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WHOLE = b'{"choices": [{"message": {"content": "refused"}}]}'
STATUSES = sorted({*map(int, http.HTTPStatus), 299, 399, 418, 499, 520, 529, 599})
"""Every registered one of 1xx to 5xx, and some that nobody has registered."""


def sends(*parts: bytes, pause: float = 0.0) -> Behaviour:
    """Send these bytes and close the connection."""

    def send(file: Any) -> None:
        for part in parts:
            file.write(part)
            file.flush()
            time.sleep(pause)

    return lambda *_: (200, {}, send)


def slow(endpoint: Endpoint, question: str) -> tuple[int, dict[str, str], Any]:
    time.sleep(2 * TIMEOUT)
    return sensible(endpoint, question)


def at_first(fault: Behaviour) -> Behaviour:
    """Behave so until every question was asked once, and well afterwards."""
    return lambda endpoint, question: (fault if endpoint.asked <= len(ROWS) else sensible)(endpoint, question)


def answers(status: int, headers: dict[str, str] | None = None, content: Any = b"") -> Behaviour:
    return lambda *_: (status, headers or {}, content)


LENGTH = f"Content-Length: {len(WHOLE)}\r\n\r\n".encode()
DRIPPED = [bytes([byte]) for byte in WHOLE]
FAULTS: dict[str, dict[str, Behaviour]] = {
    "slow": {"answer": slow, "headers": sends(HEAD, LENGTH + WHOLE, pause=2 * TIMEOUT)},
    "dripping": {
        "body": sends(HEAD + LENGTH, *DRIPPED, pause=0.1),
        "chunks": sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 40, pause=0.1),
        "headers": sends(HEAD, *[b"X-A: b\r\n"] * 40, pause=0.1),
        "status line": sends(*[bytes([byte]) for byte in HEAD[:40]], pause=0.1),
    },
    "huge": {
        "body": sends(HEAD + b"Content-Length: 3000000000\r\n\r\n", b" " * 4 * MOST_BYTES),
        "body without a length": sends(HEAD + b"\r\n", b" " * 4 * MOST_BYTES),
        "line of headers": sends(HEAD + b"X-A: " + b"a" * 2**20, b"\r\n" + LENGTH + WHOLE),
        "many headers": sends(HEAD, b"X-A: b\r\n" * 10_000, LENGTH + WHOLE),
        "word": answers(200, {}, "refused" * 10_000),
        "number": answers(200, {}, b'{"choices": ' + b"9" * 10_000 + b"}"),
        "depth": answers(200, {}, b"[" * 100_000),
    },
    "half": {
        "body": sends(HEAD + LENGTH + WHOLE[:20]),
        "JSON": answers(200, {}, WHOLE[:20]),
        "chunk": sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + WHOLE),
        "headers": sends(HEAD[:30]),
        "status line": sends(b"HTTP/1.1 2"),
        "nothing of a chunk": sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
    },
    "garbage": {
        "bytes": sends(bytes(range(256)) * 4),
        "no HTTP": sends(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        "page": answers(200, {"Content-Type": "text/html"}, b"<html>log in</html>"),
        "no UTF-8": answers(200, {}, b"\xff\xfe" * 100),
        "null": answers(200, {}, b"null"),
        "no choices": answers(200, {}, b'{"choices": []}'),
        "null content": answers(200, {}, b'{"choices": [{"message": {"content": null}}]}'),
        "another word": answers(200, {}, "perhaps"),
        "surrogate": answers(200, {}, b'{"choices": [{"message": {"content": "\\ud800"}}]}'),
        "escape": answers(200, {}, "\x1b[31mrefused\x1b[0m"),
        "length": sends(HEAD + b"Content-Length: many\r\n\r\n" + WHOLE),
        "negative length": sends(HEAD + b"Content-Length: -1\r\n\r\n" + WHOLE),
        "chunk size": sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "compressed": sends(HEAD + b"Content-Encoding: gzip\r\n" + LENGTH + WHOLE[:-1] + b" "),
        "wait": answers(503, {"Retry-After": "9" * 30}),
    },
    "redirect": {
        "elsewhere": answers(302, {"Location": "http://192.0.2.1/"}),
        "to itself": answers(307, {"Location": "/v1/chat/completions"}),
        "to a file": answers(301, {"Location": "file:///etc/hostname"}),
        "nowhere": answers(308, {"Location": ""}),
        "to no address": answers(303, {"Location": "http://[\x7f"}),
    },
    "closed": {"at once": sends(b"")},
}


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("hpa_bench.judges.openai.LONGEST_WAIT", 0.05)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Callable[[Behaviour], list[str]]]:
    """Ask a judge whose server behaves in some way, with a cache of its own."""
    count = 0

    def ask(behaviour: Behaviour) -> list[str]:
        nonlocal count
        count += 1
        with serving(behaviour) as endpoint:
            options = {"model": "m", "base_url": endpoint.url, "cache": tmp_path / str(count), "retries": 1}
            options |= {"timeout": TIMEOUT, "time_limit": TIME_LIMIT}
            return make_judge(":".join(["openai", *(f"{key}={value}" for key, value in options.items())])).verdicts(
                ROWS
            )

    yield ask


NAMES = ["Judge model 'm' at http://127.0.0.1"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_misbehaves(fault: str, asked: Callable[[Behaviour], list[str]], note: Note) -> None:
    assert asked(sensible) == VERDICTS
    for way, behaviour in FAULTS[fault].items():
        for again, how in (("always", behaviour), ("at first", at_first(behaviour))):
            # A whole body is an answer, whatever the header says of its length.
            answered = [["refused"] * 3] if "length" in way else []
            right = [*answered, *([VERDICTS] if again == "at first" else [])]
            found = outcome(partial(asked, how), NAMES, right.__contains__, LIMIT)
            note("judge server", fault, f"{way}, {again}", found)


def test_every_status(asked: Callable[[Behaviour], list[str]], note: Note) -> None:
    for status in STATUSES:
        for content in (b"", b"<html>no</html>", WHOLE):
            found = outcome(
                partial(asked, answers(status, {}, content)),
                NAMES,
                # A server that says so in a body that is a verdict has answered.
                right=lambda verdicts: 200 <= status < 300 and content == WHOLE and verdicts == ["refused"] * 3,  # noqa: B023
                limit=LIMIT,
            )
            note("judge server", f"{status // 100}xx", f"{status} {content!r}", found)


def test_a_server_that_is_not_there(tmp_path: Path, note: Note) -> None:
    with serving(sensible) as endpoint:
        url = endpoint.url
    judge = make_judge(f"openai:model=m:base_url={url}:cache={tmp_path}:retries=1:timeout={TIMEOUT}")

    note("judge server", "closed", "never there", outcome(partial(judge.verdicts, ROWS), NAMES, limit=LIMIT))
