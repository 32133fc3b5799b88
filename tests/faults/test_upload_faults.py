"""Uploads that are killed, cut, or meet a full disk: nothing half is ever stored, and the same command goes through."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.model_storage.packages import make_onnx, make_package, pack_folder
from tests.model_storage.services import Service, detail, push, refusal, running_storage, tree

BOUNDARY = "x1y2"


def form_head(length: int) -> bytes:
    """The beginning of an upload over a bare socket."""
    return (
        "POST /upload_new_version/ HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n"
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="src_file"; filename="m.zip"\r\n\r\n'
    ).encode()


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen in time")


def incoming(service_or_root: Path) -> list[Path]:
    return list((service_or_root / ".incoming").iterdir())


def staged_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / ".incoming").rglob("upload.zip"))


def begin_upload(service: Service, content: bytes) -> socket.socket:
    """Sends half of an upload and waits until it is on disk."""
    connection = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])))
    connection.sendall(form_head(len(content) * 2) + content)
    wait_for(lambda: staged_bytes(service.root) > 0)
    return connection


def test_kill_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    root = tmp_path / "storage"
    package = make_package(tmp_path, group="hat")
    with running_storage(root) as service:
        assert service.upload(package, "hat", "0.0.1").status_code == 200
        before = tree(root)
        connection = begin_upload(service, os.urandom(3 << 20))
        service.kill()
        connection.close()
    assert len(incoming(root)) == 1
    assert tree(root) == before
    with running_storage(root) as service:
        assert incoming(root) == []
        assert tree(root) == before
        assert service.upload(package, "hat", "0.0.2").json() == {"version": "0.0.2"}
        assert sorted(path.name for path in (root / "model_repository" / "hat").iterdir()) == ["1", "2", "config.pbtxt"]


def test_a_sender_that_goes_away(tmp_path: Path) -> None:
    with running_storage(tmp_path / "storage") as service:
        connection = begin_upload(service, os.urandom(3 << 20))
        connection.close()
        wait_for(lambda: incoming(service.root) == [])
        assert tree(service.root) == {}


@contextmanager
def silent_server() -> Iterator[str]:
    """An inference server that takes requests and never answers: an upload waits for it, its version already placed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("is_new", [True, False], ids=["first version", "next version"])
def test_kill_while_a_version_is_being_published(tmp_path: Path, is_new: bool) -> None:
    root = tmp_path / "storage"
    one, two = (make_package(tmp_path, seed, name=f"{seed}.zip", group="hat") for seed in (1, 2))
    if not is_new:
        with running_storage(root) as service:
            assert service.upload(one, "hat", "0.0.1").status_code == 200
    number = "1" if is_new else "2"
    before = tree(root) if root.exists() else {}
    with silent_server() as url, running_storage(root, "--triton", url) as service:

        def upload() -> None:
            with pytest.raises(httpx.TransportError):
                service.upload(two, "hat", "0.0.2")

        thread = threading.Thread(target=upload)
        thread.start()
        config = root / "model_repository" / "hat" / "config.pbtxt"
        wait_for(
            lambda: (config.parent / number / "model.onnx").exists() and f"versions: {number}" in config.read_text()
        )
        service.kill()
        thread.join()
    assert tree(root) != before
    with running_storage(root) as service:
        assert tree(root) == before
        assert incoming(root) == []
        assert "taken back" in service.log.read_text()
        assert service.upload(two, "hat", "0.0.2").json() == {"version": "0.0.2"}
        assert service.get("/get_version/hat") == {"version": number}


class CuttingProxy:
    """Stands before a storage and cuts its first connections.

    Args:
        port: of the storage.
        cuts: for each connection in turn, when it is cut: "body" in the middle of the upload, "answer" after the
            storage has answered and before the sender hears it.
    """

    def __init__(self, port: int, cuts: list[str]) -> None:
        self._port = port
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sender, _ = self._listener.accept()
            except OSError:
                return
            cut = self._cuts.pop(0) if self._cuts else ""
            threading.Thread(target=self._serve, args=(sender, cut), daemon=True).start()

    def _serve(self, sender: socket.socket, cut: str) -> None:
        storage = socket.create_connection(("127.0.0.1", self._port))

        def forward(source: socket.socket, target: socket.socket, limit: float) -> None:
            passed = 0
            with suppress(OSError):
                while chunk := source.recv(65536):
                    passed += len(chunk)
                    if passed > limit:
                        break
                    target.sendall(chunk)
            for end in (sender, storage):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        threading.Thread(
            target=forward, args=(sender, storage, 100_000 if cut == "body" else float("inf")), daemon=True
        ).start()
        forward(storage, sender, 0 if cut == "answer" else float("inf"))

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("cuts", [["body"], ["answer"], ["body", "body", "answer"]])
def test_push_over_a_connection_that_is_cut_publishes_once(tmp_path: Path, cuts: list[str]) -> None:
    folder = tmp_path / "data" / "inference_models" / "hat" / "inference_model"
    folder.mkdir(parents=True)
    make_onnx(folder / "model.onnx", 1, ballast_bytes=2 << 20)
    pack_folder(folder, folder / "model_onnx.zip", group="hat")
    with running_storage(tmp_path / "storage") as service:
        proxy = CuttingProxy(int(service.url.rpartition(":")[2]), list(cuts))
        configuration = tmp_path / "configuration.yaml"
        configuration.write_text(f"data_path: 'data'\nmodel_storage_url: '{proxy.url}'\n")
        done = push(configuration, "--group", "hat", "--version", "0.0.1")
        proxy.close()
        assert done.returncode == 0, done.stderr
        assert "hat 0.0.1 is published as version 1" in done.stdout
        assert [item["semantic_version"] for item in service.get("/versions/hat")["versions"]] == ["0.0.1"]
        wait_for(lambda: incoming(service.root) == [])


def test_push_gives_up_on_a_connection_that_is_always_cut(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "inference_models" / "hat" / "inference_model"
    folder.mkdir(parents=True)
    make_onnx(folder / "model.onnx", 1, ballast_bytes=2 << 20)
    pack_folder(folder, folder / "model_onnx.zip", group="hat")
    with running_storage(tmp_path / "storage") as service:
        proxy = CuttingProxy(int(service.url.rpartition(":")[2]), ["body"] * 20)
        configuration = tmp_path / "configuration.yaml"
        configuration.write_text(f"data_path: 'data'\nmodel_storage_url: '{proxy.url}'\n")
        done = push(configuration, "--group", "hat", "--version", "0.0.1", "--debug")
        proxy.close()
        assert done.returncode == 1
        line = done.stderr.splitlines()[-1]
        assert line.endswith("[storage.upload_failed]")
        assert " 4 times" in line
        assert tree(service.root) == {}


def test_an_upload_that_is_too_big(tmp_path: Path) -> None:
    with running_storage(tmp_path / "storage", "--max-upload-mb", "1") as service:
        big = tmp_path / "big.zip"
        big.write_bytes(os.urandom(5 << 20))
        response = service.upload(big, "hat", "0.0.1")
        assert refusal(response) == (413, "storage.too_large")
        assert "--max-upload-mb" in detail(response)

        def chunks() -> Iterator[bytes]:
            yield form_head(0).partition(b"\r\n\r\n")[2]
            for _ in range(5):
                yield bytes(1 << 20)

        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        response = httpx.post(f"{service.url}/upload_new_version/", content=chunks(), headers=headers, timeout=30)
        assert refusal(response) == (413, "storage.too_large")
        assert incoming(service.root) == []
        assert tree(service.root) == {}


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """A file system of a few megabytes at a folder; skips the test where none may be mounted."""
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size_mb}m".encode()
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, options) != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=False)


@pytest.mark.parametrize(("size_mb", "when"), [(2, "announced"), (2, "written"), (9, "unpacked")])
def test_a_full_disk(tmp_path: Path, size_mb: int, when: str) -> None:
    good = make_package(tmp_path, group="hat")
    (tmp_path / "big").mkdir()
    make_onnx(tmp_path / "big" / "model.onnx", 2, ballast_bytes=5 << 20)
    big = pack_folder(tmp_path / "big", tmp_path / "big.zip", group="hat")
    with small_disk(tmp_path / "disk", size_mb), running_storage(tmp_path / "disk" / "storage") as service:
        assert service.upload(good, "hat", "0.0.1").status_code == 200
        before = tree(service.root)
        if when == "written":
            body = form_head(0).partition(b"\r\n\r\n")[2] + big.read_bytes()
            response = httpx.post(
                f"{service.url}/upload_new_version/",
                content=iter([body]),
                headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
                timeout=30,
            )
        else:
            response = service.upload(big, "hat", "0.0.2")
        assert refusal(response) == (507, "storage.no_space")
        assert ("no space is left" in detail(response)) is (when != "announced")
        assert tree(service.root) == before
        assert incoming(service.root) == []
        assert service.upload(good, "hat", "0.0.2").status_code == 200
