"""Python programs that start with CLS's libraries imported already: real processes, without seconds of imports each.

A first process imports them and forks a copy for each program; Linux alone can hand the copy to the process that asked
for it (elsewhere programs start as usual). That a program also starts from nothing is for the tests that start it with
`sys.executable`. The workers of pytest-xdist are forked from one such process, too; each has a copy of it for programs.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from tests.processes import default_signals

_IMPORTS = (
    "torch", "torch._dynamo", "torchvision", "timm", "lightning", "onnx", "onnxscript", "torch.onnx", "PIL.Image",
    "cv2", "pydantic", "sqlalchemy", "psycopg", "httpx", "fastapi", "uvicorn", "cls.cli.main",
    "cls.training.train", "cls.exporting.publish",
)  # fmt: skip
_PR_SET_CHILD_SUBREAPER = 36
_MOST_BYTES = 1 << 20
_WORKER = Path(__file__).with_name("worker.py")
_inherited: socket.socket | None = None  # a worker's line to the process that its programs are forked from


class Program(subprocess.Popen[str]):
    """A Python program as `subprocess.Popen` starts it, text in and out; `args` is what follows `python`.

    Args:
        args: a script and its arguments, or `-c`, the code and its arguments, or `-m`, a module and its arguments.
        options: of Popen: `cwd`, `env`, and the three streams.
    """

    def __init__(self, args: list[str], **options: Any) -> None:
        with default_signals():
            super().__init__([sys.executable, *args], **{"stdin": subprocess.DEVNULL, **options, "text": True})

    if sys.platform == "linux":

        def _execute_child(self, args: Any, *more: Any) -> None:
            cwd, env = more[4:6]
            ours = (more[9], more[12], more[14])  # of three pipes the end that is the program's, -1 for no pipe
            ends = [end if end != -1 else standard for standard, end in enumerate(ours)]
            asked = {
                "parent": os.getpid(),
                "args": args[1:],
                "cwd": os.fspath(cwd or Path.cwd()),
                "env": dict(env or os.environ),
            }
            try:
                self.pid = _ask(asked, ends)
                self._child_created = True
            finally:
                devnull = getattr(self, "_devnull", None)
                pipes = zip(more[9:15:2], more[10:15:2], strict=True)
                for theirs, end in zip(pipes, ours, strict=True):
                    if -1 not in theirs and end != devnull:  # other files are the caller's
                        os.close(end)
                if devnull is not None:
                    os.close(devnull)
                self._closed_child_pipe_fds = True


def run_program(args: list[str], timeout_s: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a `Program` to its end, with what it wrote."""
    with Program(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as program:
        try:
            out, errors = program.communicate(timeout=timeout_s)
        except BaseException:
            program.kill()
            raise
    return subprocess.CompletedProcess(program.args, program.returncode, out, errors)


def _ask(asked: dict[str, Any], ends: list[int]) -> int:
    """Has a program started, as a child of this process; its number."""
    first = _first()
    adopt = ctypes.CDLL(None).prctl
    adopt(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        socket.send_fds(first, [json.dumps(asked).encode()], ends)
        answer = first.recv(100)
    finally:
        adopt(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    if not answer:
        raise RuntimeError("the process that programs are forked from has ended")
    return int(answer)


@cache
def _first() -> socket.socket:
    """The line to the process that has everything imported; it ends with this one."""
    if _inherited is not None:
        return _inherited
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = f"from tests.preloaded import import_all, serve; import_all(); serve({there.fileno()})"
    with there, default_signals():
        subprocess.Popen([sys.executable, "-c", code], pass_fds=[there.fileno()], stdin=subprocess.DEVNULL)
    return here


def python_of_workers(count: int, folder: Path) -> str:
    """The command that starts one of pytest-xdist's workers, in place of `python`; Linux alone.

    Args:
        count: of workers. Those that are started later, in place of a crashed one, start as usual.
        folder: for the socket; of this run alone.
    """
    path = folder / "workers"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening, default_signals():
        listening.bind(str(path))
        listening.listen(count)
        code = f"from tests.preloaded import serve_workers; serve_workers({listening.fileno()}, {count})"
        subprocess.Popen([sys.executable, "-c", code], pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL)
    return shlex.join([sys.executable, str(_WORKER), str(path)])


def serve_workers(listening: int, count: int) -> None:
    """Imports everything, then forks a worker for each of the first connections."""
    global _inherited
    import_all()
    with socket.socket(fileno=listening) as asked:
        asked.settimeout(60)  # when whoever started this has ended
        for _ in range(count):
            line, _ = asked.accept()  # open until the worker ends: its starter waits for that
            message, ends, _, _ = socket.recv_fds(line, _MOST_BYTES, 3)
            if not os.fork():
                break
            for end in (line.detach(), *ends):
                os.close(end)
        else:
            return
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not os.fork():
        for end in (line.detach(), here.detach(), *ends):
            os.close(end)
        serve(there.detach())
        os._exit(0)
    there.close()
    _inherited = here
    line.send(b"+")
    _run(json.loads(message), ends)


def import_all() -> None:
    """Imports all that programs use, so that a fork has it."""
    import importlib

    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # whatever the imports do: a copy would lack threads of OpenCV that it counts on
    for name in _IMPORTS:
        importlib.import_module(name)
    cv2.setNumThreads(threads)
    gc.collect()
    gc.freeze()  # shared with the copies for as long as nobody looks through it


def serve(line: int) -> None:
    """Forks a program for each message until nobody can send one any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the programs and for whoever started them
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads; those of libraries stand still
    with socket.socket(fileno=line) as asked:
        asked.set_inheritable(False)
        while True:
            message, ends, _, _ = socket.recv_fds(asked, _MOST_BYTES, 3)
            if not message:
                return
            told, tells = os.pipe()
            between = os.fork()
            if not between:
                program = os.fork()
                if program:
                    os.write(tells, str(program).encode())
                    os._exit(0)
                break
            for end in (*ends, tells):
                os.close(end)
            # Its parent ends here: from now on it is a child of whoever asked.
            os.waitpid(between, 0)
            asked.send(os.read(told, 100))
            os.close(told)
    os.close(told)
    os.close(tells)
    _run(json.loads(message), ends)


def _run(asked: dict[str, Any], ends: list[int]) -> None:
    """Becomes the program, and ends as Python does, but without taking everything apart that was imported."""
    while asked["parent"] not in (None, os.getppid()):  # some programs want to end with their parent
        time.sleep(0.001)
    for number, end in enumerate(ends):
        os.dup2(end, number)
        os.close(end)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    status: Any = 0
    try:
        _execute(*asked["args"])
    except SystemExit as stop:
        status = stop.code
    except BaseException as error:  # noqa: BLE001 - as the interpreter itself
        traceback.print_exc()
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        status = 120
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status or 0)


def _execute(kind: str, *words: str) -> None:
    if kind == "-c":
        sys.path[0], sys.argv = "", [kind, *words[1:]]
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})  # the test's own code
    elif kind == "-m":
        sys.path[0], sys.argv = str(Path.cwd()), [kind, *words[1:]]
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = str(Path(kind).resolve().parent), [kind, *words]
        runpy.run_path(kind, run_name="__main__")
