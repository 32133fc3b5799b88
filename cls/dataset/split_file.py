"""split.json of a run, and the group's memory of its splits, so that pictures added later move nobody."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from cls.dataset.samples import Sample
from cls.dataset.split import TRAIN, VALID, Split
from cls.errors import TrainingError
from cls.files import read_json, write_json_atomic


def write_split(
    path: Path, split: Split, samples: Sequence[Sample], *, seed: int, valid_share: float, by: str = "picset"
) -> None:
    """Writes who is on which side: a list `[picture, picset, labels]` for each side (null: unknown label).

    Args:
        path: the file.
        split: the sides.
        samples: everyone.
        seed: of the split.
        valid_share: share wanted in validation.
        by: how the split was made: by `picset`, or the name of parts that the dataset brought.
    """
    rows: dict[str, dict[str, list[object]]] = {TRAIN: {}, VALID: {}}
    for sample in samples:
        labels = [None if math.isnan(value) else value for value in sample.labels]
        rows[split.sides[sample.unit]][sample.path] = [sample.path, sample.picset, labels]
    content = {
        "by": by,
        "seed": seed,
        "valid_share": valid_share,
        TRAIN: list(rows[TRAIN].values()),
        VALID: list(rows[VALID].values()),
    }
    write_json_atomic(path, content, indent=None)


def read_split(path: Path) -> tuple[set[str], set[str]]:
    """Reads the pictures of a split.json: of training, of validation.

    Raises:
        TrainingError: the file is not a split, or a picture or picset stands on both sides.
        FileError: it cannot be read.
    """
    content = read_json(path)
    try:
        sides = [content[TRAIN], content[VALID]]
        pictures = [{str(row[0]) for row in side} for side in sides]
        picsets = [{str(row[1]) for row in side if row[1]} for side in sides]
    except (KeyError, TypeError, IndexError) as error:
        raise TrainingError(f"is not a split: {error!r}", where=path, hint="train again") from error
    both = sorted(pictures[0] & pictures[1]) + sorted(picsets[0] & picsets[1])
    if both:
        raise TrainingError(
            f"the split leaks: {', '.join(both[:3])} in training and in validation", where=path, hint="train again"
        )
    return pictures[0], pictures[1]


def remembered_split(path: Path, *, seed: int, valid_share: float) -> Mapping[str, str]:
    """Sides of the units of earlier trainings with this seed and share; empty where there was none."""
    if not path.exists():
        return {}
    content = read_json(path)
    found = content.get(_key(seed, valid_share)) if isinstance(content, dict) else None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise TrainingError("is not a memory of splits", where=path, hint="remove the file: a new split is made")
    return {str(unit): str(side) for unit, side in found.items()}


def remember_split(path: Path, split: Split, *, seed: int, valid_share: float) -> None:
    """Adds a split to the memory."""
    content = read_json(path) if path.exists() else {}
    key = _key(seed, valid_share)
    known = content.get(key, {})
    merged = {**known, **split.sides}
    if merged != known:
        write_json_atomic(path, {**content, key: merged}, indent=1)


def _key(seed: int, valid_share: float) -> str:
    return f"seed {seed}, share {valid_share:g}"
