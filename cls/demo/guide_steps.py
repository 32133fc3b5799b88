"""Steps of the demonstration: each a command of the guide, run as a process, its output shown as it comes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from cls.errors import ClsError
from cls.files import sha256_of_bytes, write_json_atomic
from cls.records import read_record
from cls.settings import REPOSITORY

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Ports of the demonstration's services: the guide's own where they are free."""

    collector: int
    storage: int
    ssh: int
    inference: int


def choose_ports() -> Ports:
    """Takes the guide's ports (8200, 8300, 4000, 8100), or free ones where something else listens."""
    return Ports(*(_free_port(port) for port in (8200, 8300, 4000, 8100)))


def _free_port(wanted: int) -> int:
    """The wanted port, or one the system chooses when it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
    raise ClsError(f"no free port on {HOST}", code="no_free_port", hint="close programs that listen, and run again")


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def service(
    name: str, arguments: Sequence[str], ports: Sequence[int], log: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """Runs `cls ARGUMENTS` in the background for the length of a `with` block.

    Args:
        name: what it is called in messages.
        arguments: words after `cls`.
        ports: ports of 127.0.0.1 it will listen on; the block starts when all of them answer.
        log: file for all it prints.
        environment: its whole environment.

    Raises:
        ClsError: it ended, or did not listen in time, and names the log; or something else listens there already.
    """
    taken = [port for port in ports if _is_listening(port)]
    if taken:
        # Whoever listens there is not ours: photos and models must not go to a stranger's service.
        raise ClsError(
            f"the {name} cannot be started: another program listens on port {taken[0]} of {HOST} by now",
            code="port_in_use",
            hint="run it again: it chooses other ports, and goes on from what is there",
        )
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "cls", *arguments],
            cwd=REPOSITORY,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await_ports(name, process, ports, log)
        yield
    finally:
        _stop(process)


def _await_ports(name: str, process: subprocess.Popen[bytes], ports: Sequence[int], log: Path) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not all(_is_listening(port) for port in ports):
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise ClsError(
                f"the {name} did not start: {lines[-1] if lines else 'it printed nothing'}",
                code="server_not_started",
                where=log,
            )
        if time.monotonic() > deadline_s:
            raise ClsError(f"the {name} did not listen within {_START_TIMEOUT_S:.0f} s", code="timeout", where=log)
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the service and all it started to end, and makes it when it does not."""
    for number, timeout_s in ((signal.SIGTERM, _STOP_TIMEOUT_S), (signal.SIGKILL, _STOP_TIMEOUT_S)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
            return


@dataclass(frozen=True)
class GuideStep:
    """One command.

    Attributes:
        key: short name in the journal.
        command: the words; the first is `python` or a program.
        products: what must exist for the step to count as done; empty for a step that resumes by itself and is run
            every time.
    """

    key: str
    title: str
    command: tuple[str, ...]
    products: tuple[Path, ...] = ()


@dataclass(frozen=True)
class GuideStepResult:
    """How a step went."""

    step: GuideStep
    seconds: float
    was_done: bool
    output: str


class _Finished(BaseModel):
    """A step that is finished: its command, a digest of what it depends on, and how long it took."""

    command: list[str]
    inputs: str
    seconds: float


class _Content(BaseModel):
    """A journal's file: what the demonstration is of, and its finished steps by key."""

    signature: dict[str, str]
    steps: dict[str, _Finished] = {}


class DemoJournal:
    """What a demonstration has finished, kept in its folder, so that a second run goes on."""

    def __init__(self, file: Path, signature: Mapping[str, str]) -> None:
        self._file = file
        self._content = read_record(file, _Content) if file.exists() else _Content(signature=dict(signature))
        if self._content.signature != dict(signature):
            raise ClsError(
                f"this folder holds another demonstration ({_words(self._content.signature)})",
                code="other_parameters",
                where=file.parent,
                hint="remove it with `make clean-demo`, or give another one with DEMO=folder",
            )

    def is_done(self, step: GuideStep, inputs: str) -> bool:
        """Whether the step was finished with the same command and inputs and its products are still there.

        The ports of the services do not count: they are others where something else listens on the usual ones.
        """
        entry = self._content.steps.get(step.key)
        return (
            bool(step.products)
            and entry is not None
            and _without_ports(entry.command) == _without_ports(step.command)
            and entry.inputs == inputs
            and all(product.exists() for product in step.products)
        )

    def seconds(self, step: GuideStep) -> float:
        """How long the step took when it was run."""
        return self._content.steps[step.key].seconds

    def note(self, step: GuideStep, inputs: str, seconds: float) -> None:
        """Writes down that a step is finished."""
        self._content.steps[step.key] = _Finished(command=list(step.command), inputs=inputs, seconds=round(seconds, 1))
        write_json_atomic(self._file, self._content.model_dump())


def _without_ports(command: Sequence[str]) -> list[str]:
    words = [re.sub(r"(127\.0\.0\.1):\d+", r"\1", word) for word in command]
    return [word for before, word in zip(["", *words], words, strict=False) if before != "-P"]


def _words(signature: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in signature.items())


def fingerprint(paths: Sequence[Path]) -> str:
    """A digest of small files' contents (missing ones count as empty): what a step depends on."""
    parts = [path.read_bytes() if path.is_file() else b"" for path in paths]
    return sha256_of_bytes(json.dumps([sha256_of_bytes(part) for part in parts]).encode())


def shown(command: Sequence[str]) -> str:
    """A command as a user would type it."""
    return shlex.join(command)


def run_step(step: GuideStep, environment: Mapping[str, str]) -> GuideStepResult:
    """Runs a step, printing its output indented as it comes.

    Raises:
        ClsError: it failed; repeats its last line.
    """
    words = list(step.command)
    if words[0] == "python":
        words[0] = sys.executable
    elif words[0] == "cls":
        words[:1] = [sys.executable, "-m", "cls"]
    started_s = time.monotonic()
    lines: list[str] = []
    process = subprocess.Popen(  # noqa: S603 - the guide's own commands
        words,
        cwd=REPOSITORY,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in process.stdout:
            lines.append(line.rstrip())
            print(f"    {line.rstrip()}", flush=True)
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status != 0:
        last = next((line for line in reversed(lines) if line), "it printed nothing")
        raise ClsError(
            f"`{shown(step.command)}` ended with status {status}: {last.removeprefix('error: ')}", code="step_failed"
        )
    return GuideStepResult(step, time.monotonic() - started_s, was_done=False, output="\n".join(lines))
