"""Rejects the pictures of a list: they are never trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command, bottle_of
from cls.wording import counted

_N_NAMES_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `push_badlist.py`."""
    parser.add_argument(
        "--badlist-path", type=Path, required=True, metavar="FILE", help="text file with one picture name a line"
    )


def run(options: argparse.Namespace) -> None:
    """Writes status rejected for every picture of the list and prints what changed."""
    bottle = bottle_of(options)

    from cls.pictures.database import PicturesDatabase, read_badlist

    names = read_badlist(options.badlist_path)
    with PicturesDatabase.open(bottle.database_url) as database:
        rejection = database.reject(names)
    print(f"{counted(len(names), 'picture')} in the list")
    print(f"  {len(rejection.rejected)} rejected now")
    print(f"  {len(rejection.already)} rejected before")
    if rejection.unknown:
        print(
            f"  {len(rejection.unknown)} were not in the pictures database; they are entered as rejected, so that they"
            " are not trained on when they are loaded:"
        )
        for name in rejection.unknown[:_N_NAMES_SHOWN]:
            absent = "" if bottle.picture(name).is_file() else "  (not in the bottle's pictures either)"
            print(f"    {name}{absent}")
        if len(rejection.unknown) > _N_NAMES_SHOWN:
            print(f"    and {len(rejection.unknown) - _N_NAMES_SHOWN} more")


COMMAND = Command("push-badlist", "reject the pictures of a list", add_arguments, run)
