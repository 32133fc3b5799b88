"""Unpacks annotation archives (CVAT's "COCO 1.0") into one folder of pictures and one COCO file."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command


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
    for line in report.lines():
        print(line)
    print(f"annotations: {options.output_dir / ANNOTATIONS}; report: {options.output_dir / 'report.json'}")
    print(
        "next: python cls/instance_segmentation/create_yolo_dataset.py"
        f" --src-dir {options.output_dir} --dst-dir {options.output_dir}_yolo"
    )


COMMAND = Command("yolo parse", "annotation archives -> one COCO data set", add_arguments, run)
