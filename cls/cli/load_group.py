"""Loads a labelled group of photos into the bottle: `python cls/classification/load_group.py --group hair_color`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls load-group`."""
    parser.add_argument("--group", required=True, help="the group to load, as annotators typed it")
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help="load from a folder of labelled photos instead of the collector"
    )
    parser.add_argument("--workers", type=int, default=8, help="pictures fetched at once (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Loads the group and prints what was loaded."""
    from cls.interface import load_group
    from cls.loading.pictures import group_lines

    loaded = load_group(options.group, source=options.source, workers=options.workers, cfg=options.cfg)
    print("\n".join(group_lines(loaded)))


COMMAND = Command("load-group", "load a labelled group of photos into the bottle", add_arguments, run)
