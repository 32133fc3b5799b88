"""Cuts a group's people out of their photos for annotators to look at."""

from __future__ import annotations

import argparse

from cls.cli.command import Command, add_options, bottle_of, given
from cls.segmentation.config import GalleryConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mask_builder.py`."""
    parser.add_argument("--group", required=True, metavar="G", help="the group whose pictures are cut out")
    add_options(parser, GalleryConfig)


def run(options: argparse.Namespace) -> None:
    """Writes the cut-outs and their contact sheet, and prints where they are."""
    bottle = bottle_of(options)

    from cls.segmentation.gallery.gallery import build_gallery

    config = GalleryConfig(**given(options, GalleryConfig))
    for line in build_gallery(bottle, options.group, config).lines():
        print(line)


COMMAND = Command("masks", "cut-out pictures of a group's people for annotators", add_arguments, run)
