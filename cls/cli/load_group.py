"""Loads a labelled group of photos into the bottle: `python cls/classification/load_group.py --group hair_color`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cls.cli.command import EXIT_INCOMPLETE, Command, add_options
from cls.loading.config import LoadConfig
from cls.wording import counted

if TYPE_CHECKING:
    from cls.collector.listing import SkippedPicture
    from cls.loading.load import LoadedGroup

MAX_LISTED = 5
SEGMENT = "python cls/classification/segment_builder.py --model-path person_models/best.pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls load-group`."""
    parser.add_argument("--group", required=True, help="the group to load, as annotators typed it")
    parser.add_argument(
        "--source", type=Path, metavar="DIR", help="load from a folder of labelled photos instead of the collector"
    )
    add_options(parser, LoadConfig, defaults={"workers": LoadConfig.workers})


def run(options: argparse.Namespace) -> int:
    """Loads the group and prints what was loaded; returns the exit status."""
    from cls.interface import load_group

    loaded = load_group(options.group, source=options.source, workers=options.workers, cfg=options.cfg)
    print("\n".join(group_lines(loaded)))
    return exit_status(loaded.report.skipped)


def group_lines(loaded: LoadedGroup) -> list[str]:
    """The lines printed after a group was loaded: counts, what was left out and why, and what comes next."""
    dataset, report = loaded.dataset, loaded.report
    fetched = f"{counted(report.pictures_stored, 'picture')} fetched, {report.pictures_kept} already there"
    photos = f"{counted(len(dataset.rows), 'photo')} in {counted(report.picsets, 'picset')}"
    lines = [f"group '{dataset.group}': {photos} ({fetched})"]
    width = max(len(label) for label in dataset.labels)
    for index, label in enumerate(dataset.labels):
        lines.append(f"  {label:<{width}}  {sum(int(row.labels[index]) for row in dataset.rows)}")
    trash_count = sum(not any(row.labels) for row in dataset.rows)
    lines.append(f"  {'trash':<{width}}  {trash_count}  (none of the labels)")
    lines += skipped_lines(report.skipped)
    if report.placeholders:
        lines.append(f"placeholders without a picture: {report.placeholders}")
    if report.contradictory:
        lines.append(f"photos under trash and a label at once, taken with their label: {len(report.contradictory)}")
    if report.empty_labels:
        lines.append(f"labels without a usable photo, left out: {', '.join(report.empty_labels)}")
    if report.unknown_picsets:
        lines.append(f"picsets listed but unknown to the source: {len(report.unknown_picsets)}")
    if report.skipped or report.contradictory or report.unknown_picsets:
        lines.append(f"all of it, photo by photo: {loaded.report_file}")
    lines.append(f"dataset: {loaded.dataset_file}{'' if loaded.is_changed else ' (unchanged)'}")
    lines.append(f"next: {SEGMENT}")
    return lines


def skipped_lines(skipped: Sequence[SkippedPicture]) -> list[str]:
    """How many pictures were left out, the reasons with their counts, and the first few by name."""
    if not skipped:
        return []
    reasons = Counter(picture.reason.split(" (")[0].split(":")[0] for picture in skipped)
    lines = [f"left out: {counted(len(skipped), 'picture')}"]
    lines += [f"  {count}: {reason}" for reason, count in reasons.most_common()]
    lines += [f"  {picture.filepath}: {picture.reason}" for picture in skipped[:MAX_LISTED]]
    if len(skipped) > MAX_LISTED:
        lines.append("  …")
    if count := sum(picture.is_temporary for picture in skipped):
        lines.append(f"incomplete: run the same command again to fetch {counted(count, 'picture')}")
    return lines


def exit_status(skipped: Sequence[SkippedPicture]) -> int:
    """The status of a load: incomplete where a picture was left out that a later load may fetch."""
    return EXIT_INCOMPLETE if any(picture.is_temporary for picture in skipped) else 0


COMMAND = Command("load-group", "load a labelled group of photos into the bottle", add_arguments, run, extra="train")
