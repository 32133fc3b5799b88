"""Cuts a group's people out of their photos for annotators to look at."""

from __future__ import annotations

import argparse

from cls.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mask_builder.py`."""
    parser.add_argument("--group", required=True, metavar="G", help="the group whose pictures are cut out")
    parser.add_argument(
        "--people",
        choices=("largest", "single", "all"),
        default="largest",
        help="people used of each photo: the largest, the only one, or all (default: largest)",
    )
    parser.add_argument("--subject", metavar="CLASS", help="people of this class only, e.g. female")
    parser.add_argument(
        "--size", type=int, default=512, metavar="PX", help="longest side of a cut-out, at most (default: 512)"
    )
    parser.add_argument(
        "--format", choices=("png", "jpg"), default="png", help="png: transparent; jpg: on grey (default: png)"
    )


def run(options: argparse.Namespace) -> None:
    """Writes the cut-outs and their contact sheet, and prints where they are."""
    from cls.bottle.layout import Bottle
    from cls.settings import load_settings

    bottle = Bottle(load_settings(options.cfg))

    from cls.segmentation.gallery.gallery import GalleryConfig, build_gallery

    config = GalleryConfig(options.people, options.subject, options.size, options.format)
    for line in build_gallery(bottle, options.group, config).lines():
        print(line)


COMMAND = Command("masks", "cut-out pictures of a group's people for annotators", add_arguments, run)
