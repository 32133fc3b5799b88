"""`cls attribute-set …`: a public set (PA-100K, PETA, RAPv2) as a group, and the table of its papers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cls.attribute_sets import LAYOUTS
from cls.cli.command import Command, add_options, bottle_of
from cls.cli.train import config_of
from cls.training.config import TrainConfig
from cls.wording import counted

if TYPE_CHECKING:
    from cls.attribute_sets.loading import LoadedSet
    from cls.bottle.layout import Bottle


def _add_set_arguments(parser: argparse.ArgumentParser) -> None:
    """Which set, from where, as which group."""
    parser.add_argument("root", type=Path, metavar="ROOT", help="the set's folder, as it is published")
    parser.add_argument("--layout", required=True, metavar="{" + ",".join(LAYOUTS) + "}", help="which set it is")
    parser.add_argument("--group", metavar="GROUP", help="the group it becomes (default: the layout's name)")
    parser.add_argument("--limit", type=int, metavar="N", help="load N pictures, spread over the set's parts")
    parser.add_argument(
        "--partition", type=int, default=1, metavar="1..5", help="which published random partition (default: 1)"
    )


def _loaded(options: argparse.Namespace, bottle: Bottle) -> LoadedSet:
    """Reads and loads the set, and prints what came of it."""
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


def _load(options: argparse.Namespace) -> None:
    import shlex

    loaded = _loaded(options, bottle_of(options))
    group = shlex.quote(loaded.dataset.group)
    names = sorted(loaded.part_sizes, reverse=True)
    split = f" --split {names[0]}" if names else ""
    print(f"next: python cls/classification/train.py --cat {group}{split}")


def _add_table_arguments(parser: argparse.ArgumentParser) -> None:
    _add_set_arguments(parser)
    parser.add_argument(
        "--parts", nargs="+", default=[], metavar="NAME", help="official, identity or both (default: all the set has)"
    )
    # It has its own comparison of leaking and clean parts, and resumes what was cut off by itself.
    # Pictures of these sets are two to three times as high as wide.
    defaults = {"size": "256x128", "batch": 64}
    add_options(parser, TrainConfig, without=("group", "leak_tax"), defaults=defaults)


def _table(options: argparse.Namespace) -> None:
    from cls.machine import wait_passively

    bottle = bottle_of(options)
    wait_passively()
    config = config_of(options, group=group_of(options))
    loaded = _loaded(options, bottle)

    from cls.attribute_sets.table import TABLE as TABLE_FILE
    from cls.attribute_sets.table import make_table

    print()
    print(make_table(bottle, options.layout, loaded, config, options.parts))
    print(f"table: {bottle.models(config.group) / TABLE_FILE}")


LOAD = Command("load-attribute-set", "load PA-100K, PETA or RAPv2 as a group", _add_set_arguments, _load, extra="train")
TABLE = Command(
    "attribute-set-table", "reproduce the papers' table of a public set", _add_table_arguments, _table, extra="train"
)
