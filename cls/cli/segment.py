"""Cuts out people: finds them in every photo of the bottle and writes their masks into the pictures database."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from cls.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `segment_builder.py`."""
    parser.add_argument(
        "--model-path", type=Path, required=True, metavar="FILE", help="segmentation model: best.pt, or its ONNX export"
    )
    parser.add_argument("--process-all", action="store_true", help="also do pictures again that have a row")
    parser.add_argument("--mark-approved", action="store_true", help="write status approved instead of unchecked")
    parser.add_argument(
        "--confidence", type=float, default=0.4, metavar="C", help="lowest confidence of a person (default: 0.4)"
    )
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="photos at a time (default: 16)")
    parser.add_argument(
        "--image-size", type=int, metavar="PX", help="longer side photos are scaled to (default: the training size)"
    )
    parser.add_argument(
        "--only-mapped", action="store_true", help="leave out classes that people_classes of the configuration lacks"
    )
    parser.add_argument(
        "--classes", nargs="+", metavar="NAME", help="leave out people classes other than these, e.g. female male"
    )


def run(options: argparse.Namespace) -> None:
    """Segments the bottle's photos and prints what was found."""
    from cls.bottle.dataset_file import loaded_groups
    from cls.bottle.layout import Bottle
    from cls.interface import segment
    from cls.settings import load_settings

    bottle = Bottle(load_settings(options.cfg))
    report = segment(
        options.model_path,
        process_all=options.process_all,
        mark_approved=options.mark_approved,
        confidence=options.confidence,
        batch=options.batch,
        image_size=options.image_size,
        only_mapped=options.only_mapped,
        classes=options.classes,
        cfg=options.cfg,
    )
    for line in report.lines():
        print(line)
    print(f"report: {bottle.segments / 'report.json'}")
    print(f"next: {_next_step(loaded_groups(bottle.datasets))}")


def _next_step(groups: Sequence[str]) -> str:
    """The command that comes next, for the groups that have a dataset."""
    if not groups:
        return "python cls/classification/load_group.py --group GROUP"
    names = [shlex.quote(group) for group in groups]
    if len(names) == 1:
        return f"python cls/classification/train.py --cat {names[0]} --epochs 10"
    return f"python cls/classification/train.py --cat GROUP --epochs 10, GROUP one of: {', '.join(names)}"


COMMAND = Command("segment", "find the people in every photo", add_arguments, run)
