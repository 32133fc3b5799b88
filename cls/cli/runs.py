"""`cls runs`: the training runs of a group, or of all groups; two of them side by side."""

from __future__ import annotations

import argparse
import sys

from cls.cli.command import Command, bottle_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls runs`."""
    parser.add_argument("group", nargs="?", metavar="GROUP", help="runs of this group (default: of all groups)")
    parser.add_argument("--group", dest="group_by_option", metavar="GROUP", help="the same")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="RUN",
        help="two runs side by side; RUN is a folder's name or path, a number, or newest",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(options: argparse.Namespace) -> None:
    """Prints a table, or a comparison."""
    import json

    from cls.training.runs.listing import find_run, list_runs
    from cls.training.runs.table import WIDTH, compared, comparison, run_table

    bottle = bottle_of(options)
    group = options.group_by_option or options.group
    if options.compare:
        first, second = (find_run(bottle, name, group) for name in options.compare)
        if options.json:
            print(json.dumps(compared(first, second).model_dump(mode="json"), ensure_ascii=False, indent=2))
        else:
            print(comparison(first, second))
        return
    entries = list_runs(bottle, group)
    if options.json:
        listed = [entry.listed().model_dump(mode="json") for entry in entries]
        print(json.dumps(listed, ensure_ascii=False, indent=2))
    else:
        width = WIDTH if sys.stdout.isatty() else 0
        print(run_table(entries, width) or "no runs yet; train one: `cls train --cat GROUP`")


COMMAND = Command("runs", "list the training runs of a group, or compare two", add_arguments, run, extra="train")
