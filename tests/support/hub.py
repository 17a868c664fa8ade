"""A stand-in for the part of the Hugging Face hub's API that creates a repository and takes small files.

It is what huggingface_hub's own client asks of the hub. What it does not show: large files, whose contents go elsewhere
(Xet), permissions, and limits.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_right"


class Hub:
    """What was created and uploaded: `created` as it was asked for, `files` the contents by path."""

    def __init__(self) -> None:
        self.url = ""
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """Return what the hub answers to a request, as JSON."""
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            made = self.created[-1]
            return {"url": f"{self.url}/datasets/{made['organization']}/{made['name']}"}
        if "/preupload/" in path:
            return {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
            }
        if "/commit/" in path:
            for operation in map(json.loads, body.splitlines()):
                if operation["key"] == "file":
                    value = operation["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            return {"commitUrl": f"{self.url}{path.removeprefix('/api')}", "commitOid": "0"}
        return {"errors": [], "warnings": []}


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Serve on a free port of 127.0.0.1 while the block runs."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            self._send(200 if allowed else 401, hub.answer(self.path, body) if allowed else {"error": "Bad token"})

        def do_GET(self) -> None:
            self._send(404, {})

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
