"""Progress bars and log lines: for a terminal, for a log file, or nothing at all."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 15.0
_is_quiet = False


def set_up_logging(*, debug: bool = False, quiet: bool = False) -> None:
    """Sends the project's log lines to stderr, one line each, with the time.

    Args:
        debug: also show debug messages.
        quiet: warnings and errors only, no progress.
    """
    global _is_quiet
    _is_quiet = quiet
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logger = logging.getLogger("cls")
    logger.setLevel(level)
    logger.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    logger.handlers[:] = [handler]


def silence_output() -> None:
    """No progress and no log lines any more but errors: another process of the same work shows them."""
    global _is_quiet
    _is_quiet = True
    logging.getLogger("cls").setLevel(logging.ERROR)


class Ticker:
    """Counts what is done, and shows nothing."""

    def advance(self, count: int = 1) -> None:
        """Counts `count` more units as done."""


class _LineTicker(Ticker):
    """Prints a line now and then: for a log file or a pipe, where a moving bar is noise."""

    def __init__(self, description: str, total: int | None) -> None:
        self._description = description
        self._total = total
        self._done = 0
        self._started_s = self._printed_s = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Counts, and prints where it stands when the last line is old enough."""
        self._done += count
        now_s = time.monotonic()
        if now_s - self._printed_s >= _SECONDS_BETWEEN_LINES:
            self._printed_s = now_s
            total = "" if self._total is None else f" of {self._total}"
            rate = self._done / max(now_s - self._started_s, 1e-9)
            logging.getLogger("cls").info("%s: %d%s (%.1f/s)", self._description, self._done, total, rate)


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Ticker]:
    """A progress display for the length of a `with` block.

    Args:
        description: what is being done, e.g. `pictures downloaded`.
        total: how many units there are, when known.

    Yields:
        A ticker: call `advance()` for every unit done. A bar on a terminal, a line now and then otherwise.
    """
    if _is_quiet:
        yield Ticker()
    elif not sys.stderr.isatty():
        yield _LineTicker(description, total)
    else:
        from tqdm import tqdm

        with tqdm(total=total, desc=description, file=sys.stderr, dynamic_ncols=True, leave=False) as bar:
            yield _BarTicker(bar)


class _BarTicker(Ticker):
    """Moves a bar on a terminal."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def advance(self, count: int = 1) -> None:
        """Moves the bar on by `count` units."""
        self._bar.update(count)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items while showing progress."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(description, total) as ticker:
        for item in items:
            yield item
            ticker.advance()
