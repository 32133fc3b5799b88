"""Collectors in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from cls.settings import REPOSITORY
from tests.preloaded import Program, run_program

SERVE = "from cls.cli.collector import SERVE; from cls.cli.command import main; main(SERVE)"


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without CLS_* variables, plus the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLS_")}
    return {**kept, **extra}


@contextmanager
def serving(folder: Path, *options: str, **variables: str) -> Iterator[str]:
    """`cls collector serve FOLDER` on a free port for the length of a `with` block; yields its address."""
    with _process(["-c", SERVE, str(folder), "--port", "0", *options], variables) as line:
        yield line.rsplit(" at ", 1)[1]


@contextmanager
def flaky_collector(**plan: Any) -> Iterator[str]:
    """The collector of tests/faults/flaky_collector.py with a plan of faults; yields its address."""
    script = REPOSITORY / "tests" / "faults" / "flaky_collector.py"
    with _process([str(script), json.dumps(plan)], {}) as line:
        yield line


def stats(url: str) -> dict[str, Any]:
    """What a flaky collector was asked so far."""
    answer: dict[str, Any] = httpx.get(f"{url}/stats").json()
    return answer


@contextmanager
def _process(arguments: list[str], variables: Mapping[str, str]) -> Iterator[str]:
    process = Program(arguments, cwd=REPOSITORY, env=environment(**variables), stdout=subprocess.PIPE)
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
    path = str(REPOSITORY / "cls" / "classification" / script)
    return run_program([path, *arguments], timeout_s, cwd=REPOSITORY, env=environment(**variables))
