"""`cls report`: opens the report of a training run in the browser."""

from __future__ import annotations

import argparse

from cls.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls report`."""
    parser.add_argument("run", metavar="RUN", help="a run folder's name or path, its number, or newest")
    parser.add_argument("--group", metavar="GROUP", help="of this group (default: of whichever group has such a run)")
    parser.add_argument("--print", action="store_true", help="do not open a browser, print where the report is")


def run(options: argparse.Namespace) -> None:
    """Opens the report, and prints where it is."""
    from cls.bottle.layout import Bottle
    from cls.errors import BottleError
    from cls.settings import load_settings
    from cls.training.opening import open_page
    from cls.training.runs.listing import find_run

    entry = find_run(Bottle(load_settings(options.cfg)), options.run, options.group)
    page = entry.folder / "report.html"
    if not page.is_file():
        raise BottleError(f"the run has no report: it is {entry.state}", where=entry.folder, hint="see `cls runs`")
    print(page.resolve())
    if not options.print:
        open_page(page)


COMMAND = Command("report", "open the report of a training run", add_arguments, run)
