"""Model storages in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from cls.settings import REPOSITORY
from tests.preloaded import Program, run_program

SERVE = "from cls.cli.storage import SERVE; from cls.cli.command import main; main(SERVE)"
PUSH = "from cls.cli.storage import PUSH; from cls.cli.command import main; main(PUSH)"


@dataclass(frozen=True)
class Service:
    """A running `cls storage serve`.

    Attributes:
        process: it.
        url: of the storage.
        infer_url: of the inference server.
        infer_grpc_url: of its gRPC side, `host:port`; empty with a Triton, which has its own.
        ssh_port: of scp.
        root: storage root.
        log: file its stderr goes to.
    """

    process: subprocess.Popen[str]
    url: str
    infer_url: str
    infer_grpc_url: str
    ssh_port: int
    root: Path
    log: Path

    def upload(self, zip_path: Path, model: str, version: str) -> httpx.Response:
        """The guide's curl."""
        with zip_path.open("rb") as stream:
            return httpx.post(
                f"{self.url}/upload_new_version/",
                data={"model_name": model, "model_version": version},
                files={"src_file": (zip_path.name, stream, "application/x-zip-compressed")},
                timeout=60,
            )

    def get(self, path: str) -> Any:
        """The JSON of a good answer."""
        response = httpx.get(self.url + path, timeout=30)
        assert response.status_code == 200, response.text
        return response.json()

    def with_grpc(self, address: str) -> Service:
        """The same, with the gRPC address of its Triton."""
        return replace(self, infer_grpc_url=address)

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without CLS_* variables, plus the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLS_")}
    return {**kept, **extra}


def start_arguments(root: Path, *options: str) -> list[str]:
    """`cls storage serve` on free ports, for a `Program`."""
    ports = ("--port", "0", "--ssh-port", "0", "--infer-port", "0")
    return ["-c", SERVE, "--root", str(root), *ports, *options]


@contextmanager
def running_storage(root: Path, *options: str, **variables: str) -> Iterator[Service]:
    """`cls storage serve` over a root for the length of a `with` block."""
    root.parent.mkdir(parents=True, exist_ok=True)
    log = root.with_name(f"{root.name}.log")
    arguments = start_arguments(root, *options)
    with log.open("a") as stderr:
        process = Program(
            arguments, cwd=REPOSITORY, env=environment(**variables), stdout=subprocess.PIPE, stderr=stderr
        )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(4)]
        assert lines[-1].startswith("storage root"), (lines, log.read_text())
        urls = [re.findall(r"https?://[^\s/]+", line) for line in lines[:2]]
        ssh_port = re.findall(r"-P (\d+)", lines[2])
        grpc_url = re.findall(r"grpc://(\S+)", lines[1])
        yield Service(process, urls[0][0], urls[1][0], grpc_url[0] if grpc_url else "", int(ssh_port[0]), root, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        process.stdout.close()


def tree(root: Path) -> dict[str, bytes]:
    """Every file of a model repository with its content: what must not change when something is refused."""
    folder = root / "model_repository"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def push(configuration: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`cls push` as its user runs it."""
    words = ["-c", PUSH, "--cfg", str(configuration), *arguments]
    return run_program(words, 120, cwd=REPOSITORY, env=environment(**variables))


def detail(response: httpx.Response) -> str:
    """The text of a refusal."""
    content = json.loads(response.text)
    assert set(content) - {"code", "faults"} == {"detail"}
    return str(content["detail"])


def refusal(response: httpx.Response) -> tuple[int, str]:
    """HTTP status and code of a refused request."""
    content = json.loads(response.text)
    assert set(content) - {"faults"} == {"detail", "code"}
    return response.status_code, str(content["code"])
