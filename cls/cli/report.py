"""`cls report`: opens the report of a training run in the browser."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import webbrowser
from pathlib import Path

from cls.cli.command import Command, bottle_of

_log = logging.getLogger("cls.training")


def open_page(page: Path) -> bool:
    """Opens a page in the browser; says so where there is no screen or no browser.

    On a machine without a screen nothing is started: a text browser would take over the terminal.

    Returns:
        Whether a browser was asked to open it.
    """
    has_screen = sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
    if has_screen:
        try:
            if webbrowser.open(page.resolve().as_uri()):
                return True
        except webbrowser.Error as error:
            _log.debug("no browser: %s", error)
    _log.info("no browser can be opened here: open the file above in one")
    return False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls report`."""
    parser.add_argument("run", metavar="RUN", help="a run folder's name or path, its number, or newest")
    parser.add_argument("--group", metavar="GROUP", help="of this group (default: of whichever group has such a run)")
    parser.add_argument("--print", action="store_true", help="do not open a browser, print where the report is")


def run(options: argparse.Namespace) -> None:
    """Opens the report, and prints where it is."""
    from cls.errors import BottleError
    from cls.training.runs.listing import find_run

    entry = find_run(bottle_of(options), options.run, options.group)
    page = entry.folder / "report.html"
    if not page.is_file():
        raise BottleError(
            f"the run has no report: it is {entry.state}", code="no_report", where=entry.folder, hint="see `cls runs`"
        )
    print(page.resolve())
    if not options.print:
        open_page(page)


COMMAND = Command("report", "open the report of a training run", add_arguments, run, extra="train")
