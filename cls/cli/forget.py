"""Removes somebody's pictures from the bottle, with all that was made of them: `cls forget NAME …`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command, bottle_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls forget`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="a picture's file name in pictures/")
    parser.add_argument("--picset", nargs="+", default=[], metavar="GUID", help="all pictures of these picsets")
    parser.add_argument("--list", type=Path, metavar="FILE", help="text file with one picture name a line")
    parser.add_argument("--yes", action="store_true", help="do it (default: show what would be removed)")
    parser.add_argument(
        "--runs",
        choices=["keep", "delete-pictures"],
        help="with --yes: what becomes of training runs that know the pictures; their weights always stay",
    )
    parser.add_argument("--allow", action="store_true", help="let pictures that were forgotten be loaded again")


def run(options: argparse.Namespace) -> None:
    """Prints what is, or would be, removed."""
    from cls.forgetting.forgetting import run_allow, run_forget
    from cls.pictures.database import picture_named, read_badlist

    bottle = bottle_of(options)
    names = [picture_named(text) for text in options.names] + (read_badlist(options.list) if options.list else [])
    if options.allow:
        lines = run_allow(bottle, [*names, *options.picset])
    else:
        lines = run_forget(bottle, names, options.picset, runs=options.runs, is_for_real=options.yes)
    print("\n".join(lines))


COMMAND = Command(
    "forget", "remove somebody's pictures from the bottle, and all that was made of them", add_arguments, run
)
