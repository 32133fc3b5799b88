"""Cuts a group's people out of their photos for annotators to look at."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cls.cli.command import Command, add_options, bottle_of, given
from cls.segmentation.config import GalleryConfig
from cls.wording import counted

if TYPE_CHECKING:
    from cls.segmentation.gallery import GalleryReport

_N_NAMES_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mask_builder.py`."""
    parser.add_argument("--group", required=True, metavar="G", help="the group whose pictures are cut out")
    add_options(parser, GalleryConfig)


def run(options: argparse.Namespace) -> None:
    """Writes the cut-outs and their contact sheet, and prints where they are."""
    bottle = bottle_of(options)

    from cls.segmentation.gallery import build_gallery

    config = GalleryConfig(**given(options, GalleryConfig))
    for line in report_lines(build_gallery(bottle, options.group, config)):
        print(line)


def report_lines(report: GalleryReport) -> Iterator[str]:
    """The report as printed."""
    there = counted(report.made + report.kept, "cut-out")
    yield f"{there} in {report.folder}: {report.made} made, {report.kept} were there"
    if report.removed:
        yield f"  {report.removed} of an earlier run removed: their people are not chosen any more"
    for reason, count in report.left_out.most_common():
        yield f"  {counted(count, 'picture')} left out: {reason}"
    for name, reason in list(report.failed.items())[:_N_NAMES_SHOWN]:
        yield f"  {name} left out: {reason}"
    if len(report.failed) > _N_NAMES_SHOWN:
        yield f"  and {counted(len(report.failed) - _N_NAMES_SHOWN, 'more picture')} that cannot be read"
    for name in report.foreign:
        yield f"  {name} was not made by this command and is left unchanged"
    yield f"look at them: {report.pages[0]}"


COMMAND = Command("masks", "cut-out pictures of a group's people for annotators", add_arguments, run, extra="train")
