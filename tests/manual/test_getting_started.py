"""The guide, typed word for word: every command of docs/getting-started.md runs in a copy of the repository."""

from __future__ import annotations

import json
import os
import re
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
from tests.manual.commands import Block, blocks_of
from tests.processes import default_signals

GUIDE = REPOSITORY / "docs" / "getting-started.md"


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


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_every_command_of_the_guide_does_what_it_says(shell: Shell, checkout: Path) -> None:
    printed = {}
    for block in blocks_of(GUIDE):
        if block.is_skipped:
            continue
        if block.ports:
            shell.start(block)
        else:
            printed[block.text.split("\n")[0]] = shell.run(block)

    bottle = checkout / "classification_data"
    run = bottle / "models" / "top_color" / "v__0_train_lite0_16_0.001"
    for part in ("checkpoints", "csv_logs", "onnx", "torchscripts", "train_batches"):
        assert any((run / part).iterdir()), part
    assert (run / "report.html").stat().st_size > 10_000
    macro = json.loads((run / "metrics.json").read_text())["validation"]["macro"]
    assert macro["f1"] >= 0.90
    upload = next(text for line, text in printed.items() if line.startswith("curl"))
    assert json.loads(upload) == {"version": "0.0.1"}
    repository = checkout / "storage" / "model_repository" / "top_color"
    versions = {json.loads(file.read_text())["model_version"] for file in repository.glob("*/meta.json")}
    assert versions == {"0.0.1", "0.0.2"}
    assert len((checkout / "new_predictions" / "predictions.csv").read_text().splitlines()) >= 12
    bound = re.compile(re.escape(str(checkout)))
    texts = [file for file in bottle.rglob("*") if file.suffix in (".json", ".yaml", ".csv", ".html", ".jsonl")]
    assert texts
    assert not [file for file in texts if bound.search(file.read_text())], "the bottle names a path of this machine"


def test_the_guide_holds_the_commands_of_every_stage() -> None:
    text = "\n".join(block.text for block in blocks_of(GUIDE))
    for words in ("load_group.py", "segment_builder.py", "train.py", "export.py", "upload_new_version", "scp -P 4000"):
        assert words in text
