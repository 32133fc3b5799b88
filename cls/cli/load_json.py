"""Loads picsets listed by GUID into the bottle: `python cls/classification/load_json.py --json-path FILE`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls load-json`."""
    parser.add_argument(
        "--json-path", type=Path, required=True, metavar="FILE", help='picsets by GUID: {"picsets": [["guid", …], …]}'
    )
    parser.add_argument("--workers", type=int, default=8, help="pictures fetched at once (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Loads the picsets and prints what was loaded."""
    from cls.bottle.layout import Bottle
    from cls.loading.pictures import run_load_json
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    print("\n".join(run_load_json(Bottle(settings), options.json_path, workers=options.workers)))


COMMAND = Command("load-json", "load picsets listed by GUID into the bottle", add_arguments, run)
