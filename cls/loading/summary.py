"""What a load tells its user at the end."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from cls.collector.listing import SkippedPicture
from cls.loading.load import LoadedGroup
from cls.loading.load_picsets import LoadedPicsets
from cls.wording import counted

_MAX_LISTED = 5
_SEGMENT = "python cls/classification/segment_builder.py --model_path person_models/best.pt"


def group_lines(loaded: LoadedGroup) -> list[str]:
    """The lines printed after a group was loaded: counts, what was left out and why, and what comes next."""
    dataset = loaded.dataset
    fetched = f"{counted(loaded.stored_count, 'picture')} fetched, {loaded.kept_count} already there"
    photos = f"{counted(len(dataset.rows), 'photo')} in {counted(loaded.picset_count, 'picset')}"
    lines = [f"group '{dataset.group}': {photos} ({fetched})"]
    width = max(len(label) for label in dataset.labels)
    for index, label in enumerate(dataset.labels):
        lines.append(f"  {label:<{width}}  {sum(int(row.labels[index]) for row in dataset.rows)}")
    trash_count = sum(not any(row.labels) for row in dataset.rows)
    lines.append(f"  {'trash':<{width}}  {trash_count}  (none of the labels)")
    lines += _skipped_lines(loaded.skipped)
    if loaded.placeholder_count:
        lines.append(f"placeholders without a picture: {loaded.placeholder_count}")
    if loaded.contradictory:
        lines.append(f"photos under trash and a label at once, taken with their label: {len(loaded.contradictory)}")
    if loaded.empty_labels:
        lines.append(f"labels without a usable photo, left out: {', '.join(loaded.empty_labels)}")
    if loaded.unknown_picsets:
        lines.append(f"picsets listed but unknown to the source: {len(loaded.unknown_picsets)}")
    if loaded.skipped or loaded.contradictory or loaded.unknown_picsets:
        lines.append(f"all of it, photo by photo: {loaded.report_file}")
    lines.append(f"dataset: {loaded.dataset_file}{'' if loaded.is_changed else ' (unchanged)'}")
    lines.append(f"next: {_SEGMENT}")
    return lines


def picsets_lines(loaded: LoadedPicsets) -> list[str]:
    """The lines printed after picsets were loaded by GUID."""
    lines = [f"pictures: {loaded.stored_count} fetched, {loaded.kept_count} already there"]
    lines += [f"  {group}: {counted(count, 'picset')}" for group, count in loaded.picsets_by_group.items()]
    lines += _skipped_lines(loaded.skipped)
    if loaded.placeholder_count:
        lines.append(f"placeholders without a picture: {loaded.placeholder_count}")
    for what, guids in (
        ("unknown to the collector", loaded.unknown_guids),
        ("without a group", loaded.groupless_guids),
    ):
        if guids:
            listed = ", ".join(guids[:_MAX_LISTED]) + (", …" if len(guids) > _MAX_LISTED else "")
            lines.append(f"picsets {what}, left out: {len(guids)} ({listed})")
    lines.append(f"next: {_SEGMENT}")
    if loaded.picsets_by_group:
        groups = " ".join(shlex.quote(group) for group in loaded.picsets_by_group)
        lines.append(f"then: python cls/classification/segment_meta_builder.py --groups {groups}")
    return lines


def _skipped_lines(skipped: Sequence[SkippedPicture]) -> list[str]:
    """How many pictures were left out, the reasons with their counts, and the first few by name."""
    if not skipped:
        return []
    reasons = Counter(picture.reason.split(" (")[0].split(":")[0] for picture in skipped)
    lines = [f"left out: {counted(len(skipped), 'picture')}"]
    lines += [f"  {count}: {reason}" for reason, count in reasons.most_common()]
    lines += [f"  {picture.filepath}: {picture.reason}" for picture in skipped[:_MAX_LISTED]]
    if len(skipped) > _MAX_LISTED:
        lines.append("  …")
    return lines
