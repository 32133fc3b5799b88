"""This machine and its processes: cores, threads, memory, worker processes, addresses."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import signal
import sys
from multiprocessing import current_process

from cls.errors import UsageError

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 << 20
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def wait_passively() -> None:
    """Lets threads that wait for each other sleep instead of spin; call before torch is imported.

    Where other processes compete for the cores, spinning made a training step 5 to 10 times slower; on idle cores it
    makes no difference that could be measured.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_memory() -> bool:
    """Tells glibc not to return freed blocks to the kernel.

    Every step allocates the same big blocks; by default each is mapped, zeroed page by page and unmapped again. The
    same settings by environment (MALLOC_MMAP_THRESHOLD_, …) would have to be there before Python starts.

    Returns:
        Whether this is glibc and the settings were taken.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version") or not hasattr(libc, "mallopt"):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)


def end_with_parent() -> bool:
    """Lets the kernel kill this process when the one that started it ends, however it ends.

    A helper that waits for a message from a process that was killed would wait for half an hour.

    Returns:
        Whether this is Linux and the kernel will.
    """
    if not sys.platform.startswith("linux"):
        return False
    parent = os.getppid()
    is_set = bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)
    if is_set and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return is_set


def refuse_unguarded_script() -> None:
    """Ends a worker process that runs the calls of the main script again, before it repeats their work.

    Python imports the main script in every worker process that it does not fork. Calls that do not stand under
    `if __name__ == "__main__":` run there, too; each would start workers of its own.

    Raises:
        SystemExit: the script is being imported so; of several workers the first prints the error.
    """
    # Both names stand for the same module as soon as it is imported, and in a process that is no worker: unless a
    # profiler, a debugger or `runpy` put the script in place of `__main__`.
    imported = sys.modules.get("__mp_main__")
    if imported is None or imported.__name__ != "__mp_main__" or imported is sys.modules["__main__"]:
        return
    error = UsageError(
        "a worker process runs the calls of the script again",
        code="unguarded_script",
        where=getattr(imported, "__file__", None),
        hint='put them under `if __name__ == "__main__":`',
    )
    if current_process().name.endswith("-1"):
        print(f"error: {error.line()} [{error.code}]", file=sys.stderr, flush=True)
    raise SystemExit(1)
