"""Loads a public attribute set (PA-100K, PETA, RAPv2) from its published files as a group of the bottle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cls.attribute_sets import LAYOUTS
from cls.cli.command import Command, bottle_of
from cls.wording import counted

if TYPE_CHECKING:
    from cls.attribute_sets.loading import LoadedSet
    from cls.bottle.layout import Bottle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_set_arguments(parser)


def add_set_arguments(parser: argparse.ArgumentParser) -> None:
    """Which set, from where, as which group."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="the set's folder, as it is published")
    parser.add_argument("--layout", required=True, metavar="{" + ",".join(LAYOUTS) + "}", help="which set it is")
    parser.add_argument("--group", metavar="GROUP", help="the group it becomes (default: the layout's name)")
    parser.add_argument("--limit", type=int, metavar="N", help="load N pictures, spread over the set's parts")
    parser.add_argument(
        "--partition", type=int, default=1, metavar="1..5", help="which published random partition (default: 1)"
    )


def load(options: argparse.Namespace, bottle: Bottle) -> LoadedSet:
    """Reads and loads the set, and prints what came of it.

    Raises:
        UsageError: options hold values they cannot take.
        AttributeSetError: the set cannot be read.
    """
    from cls.attribute_sets.attribute_set import odd_cells_line, some_pictures
    from cls.attribute_sets.layouts import read_set
    from cls.attribute_sets.loading import load_set
    from cls.errors import UsageError

    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit: expected a whole number from 1, found {options.limit}", code="out_of_range")
    attribute_set = read_set(options.layout, options.root, partition=options.partition)
    if options.limit is not None:
        attribute_set = some_pictures(attribute_set, options.limit)
    loaded = load_set(bottle, attribute_set, group_of(options))
    labels = counted(len(loaded.dataset.labels), "label")
    print(
        f"group '{loaded.dataset.group}': {len(loaded.dataset.rows):,} pictures, {labels}, "
        + (f"{loaded.people:,} people" if loaded.people else "the set does not name people")
        + f"; {loaded.new:,} new, {loaded.kept:,} kept, {len(loaded.left_out):,} left out"
    )
    if loaded.odd_cells:
        print(odd_cells_line(loaded.odd_cells))
    for name, sizes in sorted(loaded.part_sizes.items(), reverse=True):
        print(f"parts '{name}': " + ", ".join(f"{subset} {count:,}" for subset, count in sizes.items()))
    print(f"report: {loaded.report_file}")
    return loaded


def group_of(options: argparse.Namespace) -> str:
    """The group the set becomes."""
    return str(options.group or options.layout)


def run(options: argparse.Namespace) -> None:
    """Loads the set and prints what comes next."""
    import shlex

    loaded = load(options, bottle_of(options))
    group = shlex.quote(loaded.dataset.group)
    names = sorted(loaded.part_sizes, reverse=True)
    split = f" --split {names[0]}" if names else ""
    print(f"next: python cls/classification/train.py --cat {group}{split}")


COMMAND = Command("load-attribute-set", "load PA-100K, PETA or RAPv2 as a group", add_arguments, run)
