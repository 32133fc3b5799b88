"""Makes a YOLO segmentation dataset of a COCO data set, split so that no picset is in both parts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import Command
from cls.wording import counted

if TYPE_CHECKING:
    from cls.yolo.dataset import DatasetReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `create_yolo_dataset.py`."""
    parser.add_argument("--src-dir", type=Path, required=True, metavar="D", help="folder written by parse_archives.py")
    parser.add_argument("--dst-dir", type=Path, required=True, metavar="D", help="folder of the dataset to write")
    parser.add_argument(
        "--existing-datasets", type=Path, metavar="D", help="a YOLO dataset, or a folder of several, to merge in"
    )
    parser.add_argument(
        "--val-share", type=float, default=0.15, metavar="F", help="fraction kept for validation (default: 0.15)"
    )
    parser.add_argument(
        "--classes", nargs="+", default=[], metavar="NAME", help="classes to keep, in the order of their numbers"
    )


def run(options: argparse.Namespace) -> None:
    """Writes the dataset and prints what it holds."""
    from cls.settings import load_settings

    load_settings(options.cfg)

    from cls.yolo.dataset import DatasetConfig, create_dataset
    from cls.yolo.yolo_files import DATA_FILE, find_datasets

    config = DatasetConfig(options.val_share, tuple(options.classes))
    existing = find_datasets(options.existing_datasets) if options.existing_datasets else []
    report = create_dataset(options.src_dir, options.dst_dir, existing, config)
    for line in report_lines(report):
        print(line)
    print(f"dataset: {options.dst_dir / DATA_FILE}")
    print(
        "next: python cls/instance_segmentation/train_yolo_seg.py"
        f" --data {options.dst_dir / DATA_FILE} --model yolov8n-seg.yaml --epochs 100"
    )


def report_lines(report: DatasetReport) -> list[str]:
    """The report for a reader, one statement a line."""
    lines = []
    for part, people in report.people.items():
        outlined = ", ".join(f"{count} {name}" for name, count in sorted(people.items())) or "nobody"
        lines.append(f"{part}: {counted(report.pictures[part], 'picture')}, outlined: {outlined}")
    if report.duplicates:
        known = counted(len(report.duplicates), "picture")
        lines.append(f"already in an existing dataset, and kept in its part there: {known}")
    if report.problems:
        lines.append(f"{counted(len(report.problems), 'picture')} left out, e.g. {report.problems[0]}")
    return lines


COMMAND = Command("yolo dataset", "COCO data set -> YOLO segmentation dataset", add_arguments, run)
