"""Reproduces the papers' table of a public attribute set by one command: load, train, test, print."""

from __future__ import annotations

import argparse

from cls.cli.attribute_set_load import add_set_arguments, group_of, load
from cls.cli.command import Command, add_options
from cls.cli.train import config_of
from cls.training.config import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb: those of loading and those of training."""
    add_set_arguments(parser)
    parser.add_argument(
        "--parts", nargs="+", default=[], metavar="NAME", help="official, identity or both (default: all the set has)"
    )
    # It has its own comparison of leaking and clean parts, and resumes what was cut off by itself.
    # Pictures of these sets are two to three times as high as wide.
    defaults = {"size": "256x128", "batch": 64}
    add_options(parser, TrainConfig, without=("group", "leak_tax"), defaults=defaults)


def run(options: argparse.Namespace) -> None:
    """Loads, trains, tests and prints the table."""
    from cls.bottle.layout import Bottle
    from cls.machine import wait_passively
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    wait_passively()
    config = config_of(options, group=group_of(options))
    bottle = Bottle(settings)
    loaded = load(options, bottle)

    from cls.attribute_sets.table import TABLE, make_table

    print()
    print(make_table(bottle, options.layout, loaded, config, options.parts))
    print(f"table: {bottle.models(config.group) / TABLE}")


COMMAND = Command("attribute-set-table", "reproduce the papers' table of a public set", add_arguments, run)
