"""An OpenAI-compatible endpoint on this machine, a real HTTP server that behaves as it is told."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Endpoint", str], tuple[int, dict[str, str], Any]]
"""Given the endpoint and the question: the HTTP state, headers, and the answer's text, or the whole body as bytes, or
what writes all that is sent, status line included, into a file that it is given."""


class Endpoint:
    """What was asked of a running endpoint, and how it behaves: `behaviour` may be exchanged at any time."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.url = ""
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def asked(self) -> int:
        """How many requests came."""
        return len(self.bodies)


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[Endpoint]:
    """Serve on a free port of 127.0.0.1 while the block runs."""
    endpoint = Endpoint(behaviour)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with endpoint.lock:
                endpoint.paths.append(self.path)
                endpoint.keys.append(self.headers.get("Authorization"))
                endpoint.headers.append(dict(self.headers))
                endpoint.times.append(time.monotonic())
                endpoint.bodies.append(body)
                endpoint.at_once += 1
                endpoint.most_at_once = max(endpoint.most_at_once, endpoint.at_once)
            try:
                status, headers, content = endpoint.behaviour(endpoint, body["messages"][-1]["content"])
            finally:
                with endpoint.lock:
                    endpoint.at_once -= 1
            if callable(content):
                self.close_connection = True
                with contextlib.suppress(OSError):
                    content(self.wfile)
                return
            if not isinstance(content, bytes):
                content = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()
            try:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # The client has given up.
                self.close_connection = True

        def do_GET(self) -> None:  # Nothing asks so, but who follows a redirect.
            endpoint.paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()


def sensible(endpoint: Endpoint, question: str) -> tuple[int, dict[str, str], Any]:
    """Answer as a good judge does."""
    answer = question.partition("<answer>")[2]
    return 200, {}, "refused" if "cannot" in answer else "Complied." if "Sure" in answer else " neither\n"
