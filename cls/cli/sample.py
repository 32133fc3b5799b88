"""`cls sample make`: options in, one call, a summary out."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command, add_options, given
from cls.sample.config import SampleConfig
from cls.wording import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cls sample make`."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="folder to make the set in (new, empty, or an interrupted set)"
    )
    add_options(parser, SampleConfig)


def run(options: argparse.Namespace) -> None:
    """Makes the set and lists what is in it."""
    config = SampleConfig(**given(options, SampleConfig))
    from cls.sample.make import make_sample

    report = make_sample(options.directory, config)
    archives = f", {report.archives} archives written" if config.archives else ""
    photos = f"{counted(report.photos, 'photo')} in {counted(report.picsets, 'picset')}"
    print(f"{report.directory}: {photos}, {report.drawn} drawn now{archives}")


MAKE = Command(
    name="make",
    summary="make a sample set of photos of people with known labels and outlines",
    add_arguments=add_arguments,
    run=run,
)
