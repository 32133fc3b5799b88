"""Cuts out people: finds them in every photo of the bottle and writes their masks into the pictures database."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import Command, add_options, bottle_of, given
from cls.segmentation.config import SegmentConfig
from cls.wording import counted

if TYPE_CHECKING:
    from cls.segmentation.builder import BuildReport

_LISTED_BROKEN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `segment_builder.py`."""
    parser.add_argument(
        "--model-path", type=Path, required=True, metavar="FILE", help="segmentation model: best.pt, or its ONNX export"
    )
    add_options(parser, SegmentConfig)


def run(options: argparse.Namespace) -> None:
    """Segments the bottle's photos and prints what was found."""
    from cls.bottle.dataset_file import loaded_groups
    from cls.interface import segment

    bottle = bottle_of(options)
    report = segment(options.model_path, SegmentConfig(**given(options, SegmentConfig)), cfg=options.cfg)
    for line in report_lines(report):
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


def report_lines(report: BuildReport) -> list[str]:
    """The report for a reader, one statement a line."""
    by_class = ", ".join(f"{count} {name}" for name, count in sorted(report.people.items())) or "none"
    rate = f" ({report.photos / report.seconds:.1f} photos/s)" if report.seconds > 0 and report.photos else ""
    lines = [f"{counted(report.photos, 'photo')} segmented with {report.model_version}{rate}"]
    if report.photos:
        lines.append(f"people found: {by_class}; nobody in {counted(report.empty, 'photo')}")
    if report.skipped:
        lines.append(f"{counted(report.skipped, 'photo')} skipped: the database has them")
    if report.kept:
        kept = ", ".join(f"{count} {status}" for status, count in sorted(report.kept.items()))
        lines.append(f"photos that got new masks and keep the status somebody decided: {kept}")
    if report.broken:
        names = list(report.broken)[:_LISTED_BROKEN]
        more = [f"and {len(report.broken) - len(names)} more"] if len(report.broken) > len(names) else []
        lines.append(
            f"{counted(len(report.broken), 'file')} could not be read and have no row: {', '.join([*names, *more])}"
        )
    return lines


COMMAND = Command("segment", "find the people in every photo", add_arguments, run, extra="train")
