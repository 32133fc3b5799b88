"""Unpacks annotation archives (CVAT's "COCO 1.0") into one folder of pictures and one COCO file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import Command
from cls.wording import counted

if TYPE_CHECKING:
    from cls.yolo.merging import MergeReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `parse_archives.py`."""
    parser.add_argument(
        "--input-dir", type=Path, required=True, metavar="D", help="folder of zips with images/ and annotations/"
    )
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="D", help="folder to write images/ and annotations/ into"
    )
    parser.add_argument("--skip-empty", action="store_true", help="leave out pictures without annotations")


def run(options: argparse.Namespace) -> None:
    """Merges the archives and prints what was found."""
    from cls.settings import load_settings
    from cls.yolo.coco import list_archives, open_archives
    from cls.yolo.merging import ANNOTATIONS, merge_archives

    load_settings(options.cfg)
    archives = open_archives(list_archives(options.input_dir))
    report = merge_archives(archives, options.output_dir, is_empty_kept=not options.skip_empty)
    for line in report_lines(report):
        print(line)
    print(f"annotations: {options.output_dir / ANNOTATIONS}; report: {options.output_dir / 'report.json'}")
    print(
        "next: python cls/instance_segmentation/create_yolo_dataset.py"
        f" --src-dir {options.output_dir} --dst-dir {options.output_dir}_yolo"
    )


def report_lines(report: MergeReport) -> list[str]:
    """The report for a reader, one statement a line."""
    by_class = ", ".join(f"{count} {name}" for name, count in sorted(report.shapes.items())) or "none"
    found = f"{counted(report.pictures, 'picture')} from {counted(report.archives, 'archive')}"
    lines = [f"{found}, {report.empty} of them without people", f"outlined: {by_class}"]
    if report.crowds:
        lines.append(
            f"{counted(report.crowds, 'outline')} marked as a crowd (painted masks), each of them taken as one person"
        )
    if report.turned:
        lines.append(f"{counted(report.turned, 'picture')} turned upright")
    if report.duplicates:
        lines.append(f"{counted(len(report.duplicates), 'picture')} of several archives kept once")
    if report.problems:
        lines.append(f"pictures or outlines left out: {len(report.problems)}, e.g. {report.problems[0]}")
    return lines


COMMAND = Command("yolo parse", "annotation archives -> one COCO data set", add_arguments, run)
