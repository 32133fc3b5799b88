"""Where a training starts; published weights come from a real server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cls.errors import YoloError
from cls.yolo.training import is_offline_wanted, resolve_model


@contextmanager
def server(content: bytes, *, status: int = 200, is_cut: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Serves the content at any address; its URL, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) + (100 if is_cut else 0)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}", asked
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def test_published_weights_are_fetched_once(tmp_path: Path) -> None:
    with server(b"PK weights") as (url, asked):
        for _ in range(2):
            found = resolve_model("yolov8s-seg.pt", tmp_path, is_offline=False, url=url)
            assert Path(found).read_bytes() == b"PK weights"
        assert asked == ["/yolov8s-seg.pt"]
    assert resolve_model("yolov8s-seg.pt", tmp_path, is_offline=True) == found


@pytest.mark.parametrize(
    ("content", "status", "is_cut", "code"),
    [
        (b"<html>", 200, False, "yolo.not_a_checkpoint"),
        (b"", 404, False, "yolo.download_failed"),
        (b"PK we", 200, True, "yolo.download_failed"),
    ],
)
def test_what_is_sent_must_be_whole_and_a_checkpoint(
    tmp_path: Path, content: bytes, status: int, is_cut: bool, code: str
) -> None:
    with server(content, status=status, is_cut=is_cut) as (url, _), pytest.raises(YoloError) as caught:
        resolve_model("yolov8n-seg.pt", tmp_path, is_offline=False, url=url)
    assert caught.value.code == code
    assert "yolov8n-seg.yaml" in caught.value.line()
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_it_says_how_to_start_from_scratch(tmp_path: Path) -> None:
    with pytest.raises(YoloError) as caught:
        resolve_model("yolov8s-seg.pt", tmp_path, is_offline=False, url="http://127.0.0.1:9")
    assert caught.value.code == "yolo.download_failed"
    assert "yolov8s-seg.yaml" in (caught.value.hint or "")
    with pytest.raises(YoloError) as caught:
        resolve_model("yolov8s-seg.pt", tmp_path, is_offline=True)
    assert (caught.value.code, caught.value.where) == ("yolo.offline", "yolov8s-seg.pt")


def test_files_and_own_descriptions_are_found(tmp_path: Path) -> None:
    checkpoint = tmp_path / "best.pt"
    checkpoint.write_bytes(b"PK")
    assert resolve_model(str(checkpoint), tmp_path, is_offline=True) == str(checkpoint)
    assert resolve_model("person-small-seg.yaml", tmp_path, is_offline=True).endswith("models/person-small-seg.yaml")
    assert resolve_model("yolov8n-seg.yaml", tmp_path, is_offline=True) == "yolov8n-seg.yaml"


@pytest.mark.parametrize("model", ["mine.pt", "folder/yolov8s-seg.pt", "best.onnx", "yolov8s-seg"])
def test_what_is_nowhere_is_said_to_be_so(tmp_path: Path, model: str) -> None:
    with pytest.raises(YoloError):
        resolve_model(model, tmp_path, is_offline=False, url="http://127.0.0.1:9")


def test_the_network_is_forbidden_by_either_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOLO_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert not is_offline_wanted()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert is_offline_wanted()
