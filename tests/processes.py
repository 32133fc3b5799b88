"""Processes that tests start and stop with signals."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def default_signals() -> Iterator[None]:
    """Processes started inside end on SIGINT and SIGTERM, however the tests themselves were started.

    A shell without job control starts what it runs in the background with SIGINT ignored, and a process hands on to
    those it starts what it ignores: in `make test &` no Ctrl-C would reach them.
    """
    # Only what is ignored is changed: a handler of Python's own becomes the default one in a new program.
    ignored = [number for number in _STOPPING if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
