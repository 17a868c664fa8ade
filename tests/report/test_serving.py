"""The viewer's server: what it answers, whom, and that it sees what runs add."""

import json
import socket
import threading
from http.client import HTTPConnection

import pytest

from hpa_bench.errors import UserError
from hpa_bench.report import serving
from hpa_bench.report.serving import Shelf, Viewer
from tests.support.run_folders import SAFETY, write_run


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(serving, "FRESH_SECONDS", 0)
    running = []

    def start(*paths, show_unsafe=False):
        viewer = Viewer(Shelf(paths, show_unsafe), show_unsafe=show_unsafe)
        thread = threading.Thread(target=viewer.serve_forever, args=(0.05,))
        thread.start()
        running.append((viewer, thread))
        return viewer

    yield start
    for viewer, thread in running:
        viewer.shutdown()
        viewer.server_close()
        thread.join()


def ask(viewer, path, method="GET", host=None):
    connection = HTTPConnection("127.0.0.1", viewer.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{viewer.server_port}")
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_it_serves_the_page_its_files_the_index_and_blocks(serve, tmp_path):
    write_run(tmp_path)
    viewer = serve(tmp_path)

    kinds = {"/": "text/html", "/samples.js": "text/javascript", "/samples.css": "text/css", "/report.css": "text/css"}
    for path, kind in kinds.items():
        response, body = ask(viewer, path)
        assert response.status == 200 and body and response.getheader("Content-Type") == f"{kind}; charset=utf-8"
        assert "default-src 'none'" in response.getheader("Content-Security-Policy")
        assert response.getheader("X-Content-Type-Options") == "nosniff"
    (run,) = json.loads(ask(viewer, "/index.json")[1])["parts"][0]["runs"]
    for key in (run["key"], *(about["table"] for about in run["sets"].values())):
        response, body = ask(viewer, f"/block/{key}.json")
        assert response.status == 200 and json.loads(body)["texts"]


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/block/../../manifest.json",
        "/block/run9-9.json",
        "//etc/passwd",
        "/page.html.j2",
        "/manifest.json",
    ],
)
def test_no_other_path_is_answered(serve, tmp_path, path):
    write_run(tmp_path)

    response, body = ask(serve(tmp_path), path)
    assert response.status == 404 and json.loads(body) == {"error": "There is nothing here: load the page again."}


def test_it_answers_this_machine_alone_and_only_reads(serve, tmp_path):
    write_run(tmp_path)
    viewer = serve(tmp_path)

    assert viewer.server_address[0] == "127.0.0.1"
    for host in ("evil.example", f"evil.example:{viewer.server_port}", "127.0.0.1", f"127.0.0.1.:{viewer.server_port}"):
        response, body = ask(viewer, "/index.json", host=host)
        assert response.status == 421 and b"hpa" not in body
    assert ask(viewer, "/", host=f"localhost:{viewer.server_port}")[0].status == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert ask(viewer, "/index.json", method)[0].status == 501


def test_new_stages_runs_and_verdicts_appear(serve, tmp_path):
    write_run(tmp_path, finished=1)
    viewer = serve(tmp_path)
    (first,) = json.loads(ask(viewer, "/index.json")[1])["parts"][0]["runs"]

    folder = write_run(tmp_path)
    write_run(tmp_path, "seqft")
    later, other = json.loads(ask(viewer, "/index.json")[1])["parts"][0]["runs"]

    assert first["stages"] == ["aligned", "ad"] and later["stages"] == ["aligned", "ad", "digits", "caption"]
    assert first["key"] != later["key"] and other["label"] == "seqft"
    assert "stopped after stage 1 of 3" in first["missing"] and later["missing"] == ""
    for stage in folder.finished_stages():
        for name in SAFETY:
            given = stage.judgements("keyword", name)
            stage.write_judgements("added", name, given)
    assert "added" in json.loads(ask(viewer, "/index.json")[1])["parts"][0]["judges"]


def test_what_is_not_whole_is_one_sentence(serve, tmp_path):
    run = write_run(tmp_path)
    viewer = serve(tmp_path)
    (listed,) = json.loads(ask(viewer, "/index.json")[1])["parts"][0]["runs"]
    (run.stage(1).path / "responses" / "toy_ad.jsonl").unlink()

    response, body = ask(viewer, f"/block/{listed['key']}.json")
    assert response.status == 500 and "toy_ad.jsonl is missing" in json.loads(body)["error"]


def test_unsafe_material_is_served_only_where_asked_for(serve, tmp_path):
    write_run(tmp_path, unsafe=0.9)
    for show_unsafe in (False, True):
        viewer = serve(tmp_path, show_unsafe=show_unsafe)
        index = json.loads(ask(viewer, "/index.json")[1])
        (run,) = index["parts"][0]["runs"]
        page, block = ask(viewer, "/")[1], ask(viewer, f"/block/{run['key']}.json")[1]

        assert index["unsafe"] == show_unsafe
        assert (b"Unsafe material is shown" in page) == show_unsafe
        assert not any(isinstance(text, str) for text in json.loads(block)["veiled"])
        assert (json.loads(block)["veiled"] == []) == show_unsafe


def test_a_port_that_is_taken_is_one_sentence(tmp_path):
    write_run(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port {port} of 127\.0\.0\.1 cannot be used \(.*\): choose another"):
            Viewer(Shelf([tmp_path]), port)
