"""Collectors in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from cls.settings import REPOSITORY
from tests.processes import default_signals

SERVE = "from cls.cli.collector import SERVE; from cls.cli.command import main; main(SERVE)"


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without CLS_* variables, plus the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLS_")}
    return {**kept, **extra}


@contextmanager
def serving(folder: Path, *options: str, **variables: str) -> Iterator[str]:
    """`cls collector serve FOLDER` on a free port for the length of a `with` block; yields its address."""
    with _process([sys.executable, "-c", SERVE, str(folder), "--port", "0", *options], variables) as line:
        yield line.rsplit(" at ", 1)[1]


@contextmanager
def flaky_collector(**plan: Any) -> Iterator[str]:
    """The collector of tests/faults/flaky_collector.py with a plan of faults; yields its address."""
    script = REPOSITORY / "tests" / "faults" / "flaky_collector.py"
    with _process([sys.executable, str(script), json.dumps(plan)], {}) as line:
        yield line


def stats(url: str) -> dict[str, Any]:
    """What a flaky collector was asked so far."""
    answer: dict[str, Any] = httpx.get(f"{url}/stats").json()
    return answer


@contextmanager
def _process(arguments: list[str], variables: Mapping[str, str]) -> Iterator[str]:
    with default_signals():
        process = subprocess.Popen(
            arguments,
            cwd=REPOSITORY,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, f"the server ended with status {process.wait(10)}"
        yield line
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        process.stdout.close()


def run_script(
    script: str, *arguments: str, timeout_s: float = 120, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs an entry script as its user does and returns what it printed."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "cls" / "classification" / script), *arguments],
        cwd=REPOSITORY,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
