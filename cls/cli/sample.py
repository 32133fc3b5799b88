"""`cls sample make`: options in, one call, a summary out."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command
from cls.wording import counted


def _size(text: str) -> tuple[int, int]:
    width, separator, height = text.lower().partition("x")
    if not (separator and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 640x480")
    return int(width), int(height)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cls sample make`."""
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="folder to make the set in (new, empty, or an interrupted set)"
    )
    parser.add_argument("--photos", type=int, default=200, metavar="N", help="how many photos (default: 200)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="same seed and options, same bytes (default: 0)"
    )
    parser.add_argument(
        "--wrong-labels",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of photos with a wrong label, 0..1 (default: 0)",
    )
    parser.add_argument(
        "--corrupt", type=float, default=0.0, metavar="SHARE", help="share of broken image files, 0..1 (default: 0)"
    )
    parser.add_argument(
        "--size", type=_size, default=(640, 480), metavar="WxH", help="size of the photos in pixels (default: 640x480)"
    )
    parser.add_argument(
        "--archives",
        action="store_true",
        help="also write archives/part_NNN.zip, the shape of a CVAT export (COCO 1.0)",
    )
    parser.add_argument(
        "--workers", type=int, default=None, metavar="N", help="processes that draw (default: all cores)"
    )


def run(options: argparse.Namespace) -> None:
    """Makes the set and lists what is in it."""
    from cls.sample.make import make_sample
    from cls.sample.plan import SampleConfig

    width_px, height_px = options.size
    config = SampleConfig(options.photos, options.seed, width_px, height_px, options.wrong_labels, options.corrupt)
    report = make_sample(options.directory, config, archives=options.archives, workers=options.workers)
    archives = f", {report.archives} archives written" if options.archives else ""
    photos = f"{counted(report.photos, 'photo')} in {counted(report.picsets, 'picset')}"
    print(f"{report.directory}: {photos}, {report.drawn} drawn now{archives}")


MAKE = Command(
    name="make",
    summary="Make a sample set of photos of people with known labels and outlines.",
    add_arguments=add_arguments,
    run=run,
)
