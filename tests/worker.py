"""Stands in for `python` where pytest-xdist starts a worker: has it forked from a process with everything imported."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path


def main(path: str, *words: str) -> None:
    """Waits for the end of the worker, or becomes it where nobody forks one."""
    asked = {"parent": None, "args": words[words.index("-c") :], "cwd": str(Path.cwd()), "env": dict(os.environ)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        try:
            line.connect(path)
            socket.send_fds(line, [json.dumps(asked).encode()], [0, 1, 2])
            if line.recv(1):
                line.recv(1)
                return
        except OSError:
            pass
    os.execv(sys.executable, [sys.executable, *words])


if __name__ == "__main__":
    main(*sys.argv[1:])
