"""The guide's services as processes of their own: started, waited for, and ended with all that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cls.errors import ClsError
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
