"""Samples of runs for a browser on this machine: read-only, and as they are on disk at the moment."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined

from hpa_bench.errors import UserError
from hpa_bench.files import PARTIAL
from hpa_bench.redact import clean
from hpa_bench.report.conditions import sorted_runs
from hpa_bench.report.samples import Part, Samples
from hpa_bench.results.manifest import MANIFEST
from hpa_bench.results.published import ABOUT, PublishedRun, find_results
from hpa_bench.results.run_folder import FAILED, RunFolder
from hpa_bench.results.runs import read_runs
from hpa_bench.results.source import FolderSource, Source

HOST = "127.0.0.1"
"""The only address that is listened at."""
FRESH_SECONDS = 2.0
"""How long what was found on disk is taken to be so."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
KINDS = {".css": "text/css", ".js": "text/javascript"}
STATIC = ("report.css", "samples.css", "samples.js")
"""Files of the page that are served as they are; no path of a request is ever looked up on disk."""

Marks = tuple[Any, ...]


class Shelf:
    """Runs as they are on disk, read again where they have changed.

    Args:
        paths: runs, published results, or folders that hold some.
        show_unsafe: whether material of safety sets is shown.

    Raises:
        UserError: a folder does not exist or holds no run, or one is not whole.
    """

    def __init__(self, paths: Sequence[Path], show_unsafe: bool = False) -> None:
        self._paths = paths
        self._show_unsafe = show_unsafe
        self._lock = threading.Lock()
        self._marks: dict[Path, Marks] | None = None
        self._sources: dict[Path, Source] = {}
        self._looked = float("-inf")
        self._samples = Samples([])
        self.index()

    def index(self) -> dict[str, Any]:
        """Return what there is to be read now (see `hpa_bench.report.samples`)."""
        with self._lock:
            if time.monotonic() - self._looked > FRESH_SECONDS:
                self._look()
                self._looked = time.monotonic()
            return self._samples.index()

    def block(self, key: str) -> dict[str, Any]:
        """Return a block of the last index.

        Raises:
            KeyError: there is none of the name.
            UserError: a file of the run is missing or not whole.
        """
        with self._lock:
            try:
                return self._samples.block(key)
            finally:
                self._samples.let_go(key)

    def _look(self) -> None:
        marks = {path: mark for each in self._paths for path, mark in _marks(each)}
        if marks == self._marks:
            return
        sources: dict[Path, Source] = {}
        before = self._marks or {}
        for found in find_results(self._paths):
            changed = marks.get(found.path) != before.get(found.path)
            if isinstance(found, PublishedRun):
                sources[found.path] = found
            else:  # Its files are checked against their seals when it is first read, and when it has more of them.
                sources[found.path] = FolderSource(found) if changed else self._sources[found.path]
        parts = [
            Part(str(number), title, sorted(members, key=lambda run: (run.label, run.seed, run.noise)))
            for number, (title, _, members) in enumerate(sorted_runs(read_runs(sources.values())), 1)
        ]
        self._samples = Samples(parts, self._show_unsafe)
        self._marks, self._sources = marks, sources


def _marks(path: Path) -> Iterator[tuple[Path, Marks]]:
    """Yield each run at or below a path, with what is other once it has more or other results."""
    if path.is_file():
        yield path, (_stamp(path),)
    for about in path.rglob(ABOUT):
        for file in about.parent.glob("*/*.parquet"):
            yield file, (_stamp(file),)
    for manifest in path.rglob(MANIFEST):
        folder = RunFolder(manifest.parent)
        files = [manifest, folder.path / FAILED, *folder.path.glob("stage*/DONE")]
        files += [file for file in folder.path.glob("stage*/judgements/*/*") if file.suffix != PARTIAL]
        yield folder.path, (folder.is_live, *((str(file), _stamp(file)) for file in files))


def _stamp(file: Path) -> int:
    """Return when a file was written; 0 where it is gone by now."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class Viewer(ThreadingHTTPServer):
    """Serves the samples of a shelf, at 127.0.0.1 alone.

    Args:
        shelf: the runs.
        port: to listen at; 0: one that is free.
        show_unsafe: whether the shelf shows material of safety sets.

    Raises:
        UserError: the port is taken, or may not be used.
    """

    daemon_threads = True

    def __init__(self, shelf: Shelf, port: int = 0, show_unsafe: bool = False) -> None:
        self.shelf = shelf
        environment = Environment(
            loader=PackageLoader("hpa_bench.report", "page"), autoescape=True, undefined=StrictUndefined
        )
        page = environment.get_template("view.html.j2").render(show_unsafe=show_unsafe)
        folder = files("hpa_bench.report") / "page"
        self.static = {f"/{name}": (KINDS[Path(name).suffix], (folder / name).read_bytes()) for name in STATIC}
        self.static["/"] = "text/html", page.encode()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(
                f"--port {port} of {HOST} cannot be used ({error.strerror}): choose another, or none for a free one."
            ) from None
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """Where the viewer is."""
        return f"http://{HOST}:{self.server_port}/"

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Return the status, the kind and the content that stand at a path."""
        if path in self.static:
            return HTTPStatus.OK, *self.static[path]
        try:
            if path == "/index.json":
                return HTTPStatus.OK, "application/json", _json(self.shelf.index())
            folder, _, name = path.rpartition("/")
            if folder == "/block" and name.endswith(".json"):
                return HTTPStatus.OK, "application/json", _json(self.shelf.block(name.removesuffix(".json")))
        except UserError as error:
            return HTTPStatus.INTERNAL_SERVER_ERROR, "application/json", _json({"error": clean(str(error))})
        except KeyError:
            pass
        return HTTPStatus.NOT_FOUND, "application/json", _json({"error": "There is nothing here: load the page again."})


class _Handler(BaseHTTPRequestHandler):
    """Answers GET, of requests that name this machine: another name would be a site's that leads here (rebinding)."""

    server: Viewer
    server_version = "hpa-bench"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer."""
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            found = HTTPStatus.MISDIRECTED_REQUEST, "text/plain", f"Ask for {self.server.address}\n".encode()
        else:
            found = self.server.answer(urlsplit(self.path).path)
        status, kind, content = found
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is the user's."""


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
