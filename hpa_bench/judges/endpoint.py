"""One HTTP endpoint, asked within limits: so many bytes, so many seconds, no other host, and no key in what is told."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from hpa_bench.redact import redacted

MOST_BYTES = 2**20
"""Of an answer, headers aside: a chat completion of one word has some 500, and a reasoning model's some thousands."""


class Answer(NamedTuple):
    """What an endpoint answered."""

    status: int
    text: str
    """The body, redacted."""
    retry_after: float
    """Seconds that it asks to wait, 0 where it asks for none."""

    @property
    def state(self) -> str:
        """The HTTP state in words that are not the endpoint's own, so that they may be published."""
        try:
            return f"HTTP {self.status} {http.HTTPStatus(self.status).phrase}"
        except ValueError:
            return f"HTTP {self.status}"


class Unanswered(Exception):
    """An attempt that gave no answer; the message says why, in no words of the endpoint."""


class _Session(requests.Session):
    """Sees no redirect in an answer: it would read the whole body of one, however long, before it is handed over."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class Endpoint:
    """Posts JSON to one address; safe to use from several threads."""

    def __init__(self, url: str, key: str, concurrency: int) -> None:
        self._url = url
        self._session = _Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter(pool_maxsize=concurrency))
        # Compressed, few bytes could become gigabytes.
        self._session.headers["Accept-Encoding"] = "identity"
        if key:
            # Not a header of the session: requests would let the user's .netrc overrule it.
            def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
                request.headers["Authorization"] = f"Bearer {key}"
                return request

            self._session.auth = sign

    def post(self, body: Mapping[str, Any], seconds: float) -> Answer:
        """Return the answer to one request, redirects among the answers.

        Args:
            body: what to ask.
            seconds: the limit from the first byte sent to the last one read, however they come.

        Raises:
            Unanswered: no connection, no whole answer in time, or one of more than `MOST_BYTES`.
        """
        late = Unanswered(f"no answer within {seconds:g} s")
        with _deadline(seconds) as deadline:
            try:
                with self._session.post(
                    self._url, json=body, timeout=seconds, stream=True, allow_redirects=False
                ) as response:
                    content = b""
                    # Until nothing comes: only then does urllib3 say whether the answer is whole.
                    while piece := response.raw.read(MOST_BYTES + 1 - len(content), decode_content=False):
                        content += piece
            except (requests.Timeout, urllib3.exceptions.TimeoutError):
                raise late from None
            except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
                raise late if deadline.passed else Unanswered(_cause(error)) from None
        if deadline.passed:  # What was cut off may look like an answer that ended.
            raise late
        if len(content) > MOST_BYTES:
            raise Unanswered(f"an answer of more than {MOST_BYTES} bytes")
        text = redacted(content.decode("utf-8", errors="replace"))
        return Answer(response.status_code, text, _seconds(response.headers.get("Retry-After", "")))

    def close(self) -> None:
        """Close the connections that wait for a further question."""
        self._session.close()


def content_of(text: str) -> str:
    """Return the text of a chat completion; of anything else, what was sent instead, which is no verdict."""
    try:
        content = json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        content = None
    return content if isinstance(content, str) else text


class _Deadline:
    """Cuts the connection of one attempt when its time is over.

    The time-outs of sockets start anew with every byte, so that a dripping answer would outlive them.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self.timer = threading.Timer(seconds, self._pass)
        self.timer.daemon = True

    def watch(self, connected: socket.socket | None) -> None:
        """Cut this connection from now on."""
        with self._lock:
            self._socket = connected
        if self.passed:
            self._cut()

    def _pass(self) -> None:
        self.passed = True
        self._cut()

    def _cut(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)


_of_thread = threading.local()


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[_Deadline]:
    """Let the connections that this thread uses end after so many seconds, while the block runs."""
    deadline = _of_thread.deadline = _Deadline(seconds)
    deadline.timer.start()
    try:
        yield deadline
    finally:
        deadline.timer.cancel()
        deadline.watch(None)
        del _of_thread.deadline


class _Watched:
    """A connection that the deadline of its thread may cut while an answer is read, its headers included."""

    sock: socket.socket | None

    def getresponse(self) -> Any:
        _of_thread.deadline.watch(self.sock)
        return super().getresponse()  # type: ignore[misc]


class _HTTP(_Watched, HTTPConnection):
    pass


class _HTTPS(_Watched, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP  # type: ignore[assignment]


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS  # type: ignore[assignment]


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager


def _cause(error: BaseException) -> str:
    """Return what the system says of a failed connection; else its kind, since a message may quote the endpoint."""
    kind, found = type(error).__name__, error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return str(found.strerror)
        found = found.__cause__ or found.__context__  # type: ignore[assignment]
    return f"the connection broke ({kind})"


def _seconds(retry_after: str) -> float:
    asked = retry_after.strip()
    if asked.isascii() and asked.isdigit():
        return float(asked)
    try:
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0
