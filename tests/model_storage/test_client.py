"""What the client makes of refusals, of storages of other versions, and of something that is no storage."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cls.errors import StorageError
from cls.model_storage.client import StorageClient
from tests.model_storage.packages import of_group
from tests.model_storage.services import Service, running_storage


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that gives one answer to everything; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keeps the test's output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refused(url: str, package: Path, version: str = "0.0.1", token: str = "") -> StorageError:
    with StorageClient(url, token) as client, pytest.raises(StorageError) as caught:
        client.publish(package, "hat", version)
    assert caught.value.where == url
    return caught.value


def test_a_refusal_keeps_its_code(service: Service, packages: dict[int, Path]) -> None:
    assert service.upload(of_group(packages[1], "hat"), "hat", "7.0.0").status_code in (200, 409)
    assert refused(service.url, of_group(packages[2], "hat"), "7.0.0").code == "storage.version_taken"
    assert refused(service.url, of_group(packages[2], "top_color"), "7.0.1").code == "storage.wrong_group"
    assert refused(service.url, of_group(packages[2], "hat"), "7").code == "storage.invalid_version"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"detail": "no"}, "storage.refused"),
        ({"detail": "no", "code": "storage.version_taken"}, "storage.version_taken"),
        ({"detail": "no", "code": "package.damaged"}, "storage.refused"),
        ({"detail": "no", "code": "storage.Any words"}, "storage.refused"),
        ({"detail": "no", "code": f"storage.{'a' * 65}"}, "storage.refused"),
        ({"detail": "no", "code": ["storage.version_taken"]}, "storage.refused"),
        ({"message": "no"}, "storage.unexpected_answer"),
        ([], "storage.unexpected_answer"),
    ],
)
def test_refusals_of_other_servers(packages: dict[int, Path], content: object, code: str) -> None:
    with answering(422, json.dumps(content).encode()) as url:
        error = refused(url, packages[1])
    assert error.code == code
    assert ("no" in error.what.split()) is (code != "storage.unexpected_answer")


def test_something_that_is_no_storage(packages: dict[int, Path]) -> None:
    with answering(200, b"<html>") as url:
        assert refused(url, packages[1]).code == "storage.unexpected_answer"
    assert refused("http://127.0.0.1:9", packages[1]).code == "storage.unreachable"


def test_a_wrong_token(packages: dict[int, Path], tmp_path: Path) -> None:
    with running_storage(tmp_path / "storage", CLS_MODEL_STORAGE_TOKEN="right") as guarded:
        error = refused(guarded.url, packages[1], token="wrong")
    assert error.code == "storage.unauthorized"
    assert "CLS_MODEL_STORAGE_TOKEN" in (error.hint or "")
