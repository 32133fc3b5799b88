"""A checkout with nothing in it yet, and a shell in which the commands of a page run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cls.settings import REPOSITORY
from tests.manual.commands import Block
from tests.processes import default_signals


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what git would check out, with nothing made in it yet."""
    folder = tmp_path / "checkout"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "cls", "docs", "pyproject.toml"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture
def shell(checkout: Path, tmp_path: Path) -> Iterator[Shell]:
    running = Shell(checkout, tmp_path)
    yield running
    running.close()


class Shell:
    """Runs blocks as a user would: those that stay in terminals of their own."""

    def __init__(self, folder: Path, home: Path) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CLS_")}
        tools = Path(sys.executable).parent
        self._environment = environment | {
            "PATH": f"{tools}{os.pathsep}{environment['PATH']}",
            "PYTHONPATH": str(folder),
            "HOME": str(home),
        }
        self._folder = folder
        self._services: list[subprocess.Popen[bytes]] = []

    def type(self, block: Block) -> str | None:
        """What a block prints; None where it stays, as a service does, or is not run here."""
        if block.is_skipped:
            return None
        if block.ports:
            self.start(block)
            return None
        return self.run(block)

    def run(self, block: Block) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def start(self, block: Block) -> None:
        for port in block.ports:
            assert not listens(port), f"port {port} is taken: the guide's services need it"
        with default_signals():
            self._services.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {block.text}"],
                    cwd=self._folder,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        deadline_s = time.monotonic() + 60
        while not all(listens(port) for port in block.ports):
            assert self._services[-1].poll() is None, f"ended: {block.text}"
            assert time.monotonic() < deadline_s, f"does not listen: {block.text}"
            time.sleep(0.1)

    def close(self) -> None:
        for process in self._services:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
