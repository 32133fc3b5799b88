"""Loads picsets listed by GUID into the bottle: `python cls/classification/load_json.py --json-path FILE`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import Command, add_options
from cls.cli.load_group import MAX_LISTED, SEGMENT, exit_status, skipped_lines
from cls.loading.config import LoadConfig
from cls.wording import counted

if TYPE_CHECKING:
    from cls.loading.load import LoadedPicsets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls load-json`."""
    parser.add_argument(
        "--json-path", type=Path, required=True, metavar="FILE", help='picsets by GUID: {"picsets": [["guid", …], …]}'
    )
    add_options(parser, LoadConfig, defaults={"workers": LoadConfig.workers})


def run(options: argparse.Namespace) -> int:
    """Loads the picsets and prints what was loaded; returns the exit status."""
    from cls.bottle.layout import Bottle
    from cls.loading.load import load_picsets_of_file
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    loaded = load_picsets_of_file(Bottle(settings), options.json_path, workers=options.workers)
    print("\n".join(picsets_lines(loaded)))
    return exit_status(loaded.skipped)


def picsets_lines(loaded: LoadedPicsets) -> list[str]:
    """The lines printed after picsets were loaded by GUID."""
    lines = [f"pictures: {loaded.stored_count} fetched, {loaded.kept_count} already there"]
    lines += [f"  {group}: {counted(count, 'picset')}" for group, count in loaded.picsets_by_group.items()]
    lines += skipped_lines(loaded.skipped)
    if loaded.placeholder_count:
        lines.append(f"placeholders without a picture: {loaded.placeholder_count}")
    for what, guids in (
        ("unknown to the collector", loaded.unknown_guids),
        ("without a group", loaded.groupless_guids),
    ):
        if guids:
            listed = ", ".join(guids[:MAX_LISTED]) + (", …" if len(guids) > MAX_LISTED else "")
            lines.append(f"picsets {what}, left out: {len(guids)} ({listed})")
    lines.append(f"next: {SEGMENT}")
    if loaded.picsets_by_group:
        groups = " ".join(shlex.quote(group) for group in loaded.picsets_by_group)
        lines.append(f"then: python cls/classification/segment_meta_builder.py --groups {groups}")
    return lines


COMMAND = Command("load-json", "load picsets listed by GUID into the bottle", add_arguments, run, extra="train")
