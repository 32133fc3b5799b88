"""split.json of a run, and the dataset's memory of its splits, so that pictures added later move nobody."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from cls.bottle.dataset_file import change_splits
from cls.dataset.samples import Sample
from cls.dataset.split.assign import JOIN_RULE, TRAIN, VALID, Split, split_samples
from cls.errors import TrainingError
from cls.files import read_json, sha256_of_bytes, write_json_atomic

_SEEN_EARLIER = "seen_earlier"
_JOIN_RULE = "join_rule"


def write_split(
    path: Path,
    split: Split,
    samples: Sequence[Sample],
    *,
    seed: int,
    valid_share: float,
    by: str = "picset",
    seen_earlier: Mapping[str, str] | None = None,
) -> None:
    """Writes who is on which side: a list `[picture, picset, labels]` for each side (null: unknown label).

    `joined` holds what belongs together: name of a cluster -> its picsets and pictures; `join_rule` says by which rule
    near duplicates were found (1 in files without it). `seen_earlier` lists pictures, with their picset, that the first
    weights were trained on and this training is not.

    Args:
        path: the file.
        split: the sides.
        samples: everyone.
        seed: of the split.
        valid_share: share wanted in validation.
        by: how the split was made: by `picset`, or the name of parts that the dataset brought.
        seen_earlier: picture -> picset.
    """
    rows: dict[str, dict[str, list[object]]] = {TRAIN: {}, VALID: {}}
    for sample in samples:
        labels = [None if math.isnan(value) else value for value in sample.labels]
        rows[split.sides[sample.unit]][sample.path] = [sample.path, sample.picset, labels]
    joined: dict[str, set[str]] = {}
    for sample in samples:
        if sample.joined:
            joined.setdefault(sample.joined, set()).add(sample.own_unit)
    content = {
        "by": by,
        "seed": seed,
        "valid_share": valid_share,
        _JOIN_RULE: JOIN_RULE,
        "joined": {cluster: sorted(members) for cluster, members in sorted(joined.items())},
        TRAIN: list(rows[TRAIN].values()),
        VALID: list(rows[VALID].values()),
    }
    if seen_earlier:
        content[_SEEN_EARLIER] = [list(pair) for pair in sorted(seen_earlier.items())]
    write_json_atomic(path, content, indent=None)


def read_split(path: Path) -> tuple[set[str], set[str]]:
    """Reads the pictures of a split.json: of training, of validation.

    Raises:
        TrainingError: the file is not a split, or a picture, a picset or joined picsets stand on both sides.
        FileError: it cannot be read.
    """
    content = read_json(path)
    try:
        sides = [content[TRAIN], content[VALID]]
        pictures = [{str(row[0]) for row in side} for side in sides]
        clusters = joined_in(content)
        units = [_units_of(side, clusters) for side in sides]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise TrainingError(f"is not a split: {error!r}", code="not_a_split", where=path, hint="train again") from error
    both = sorted(pictures[0] & pictures[1]) + sorted(units[0] & units[1])
    if both:
        raise TrainingError(
            f"the split leaks: {', '.join(both[:3])} in training and in validation",
            code="split_leaks",
            where=path,
            hint="train again",
        )
    return pictures[0], pictures[1]


def trained_on(path: Path) -> dict[str, str]:
    """Whom the weights of a run know: picture -> picset, of its training and of what its first weights came from.

    Raises:
        TrainingError: the file is not a split.
        FileError: it cannot be read.
    """
    content = read_json(path)
    try:
        rows = [*content[TRAIN], *content.get(_SEEN_EARLIER, [])]
        return {str(row[0]): str(row[1]) for row in rows}
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise TrainingError(
            f"is not a split: {error!r}", code="not_a_split", where=path, hint="start from another run"
        ) from error


def joined_in(content: Mapping[str, Any]) -> dict[str, str]:
    """What a split.json says belongs together: picset or picture, as a unit -> its cluster; older files know none."""
    return {str(unit): str(cluster) for cluster, members in content.get("joined", {}).items() for unit in members}


def _units_of(rows: Sequence[Sequence[Any]], clusters: Mapping[str, str]) -> set[str]:
    """Picsets, and clusters of picsets and pictures, that stand on one side."""
    own = {f"picset:{row[1]}" if row[1] else f"picture:{row[0]}" for row in rows}
    return own | {clusters[unit] for unit in own if unit in clusters}


def split_with_memory(
    file: Path,
    older: Path,
    samples: Sequence[Sample],
    *,
    seed: int,
    valid_share: float,
    trained_on: Collection[str] = (),
) -> Split:
    """Divides samples as earlier trainings with this seed and share did, and remembers it in the dataset file.

    Trainings at once take turns, so that all of them agree.

    Where that split would hold out somebody the first weights were trained on, there is another one, with a memory of
    its own: they are in training, and validation is made of the others.

    Args:
        file: the dataset file; `splits` is added to it: {"seed …, share …": {picset or picture: side}}.
        older: where earlier versions kept the memory; read, where it exists, never written.
        samples: what is to be divided.
        seed: another seed gives another split, with a memory of its own.
        valid_share: share of samples wanted in validation.
        trained_on: picsets and pictures that the first weights were trained on (`Split.memory` names them so).

    Raises:
        TrainingError: no split can be made, or the memory is not readable.
        FileError: the dataset file cannot be read or written.
    """
    key = _key(seed, valid_share)
    splits: list[Split] = []

    def change(memory: Any) -> dict[str, Any]:
        known = {**_sides_in(read_json(older) if older.exists() else None, key, older), **_sides_in(memory, key, file)}
        split = split_samples(samples, valid_share=valid_share, seed=seed, known=known)
        if _holds_out(split, samples, trained_on):
            key_after = f"{key}, after {sha256_of_bytes(repr(sorted(trained_on)).encode())[:12]}"
            known = {**_sides_in(memory, key_after, file), **dict.fromkeys(trained_on, TRAIN)}
            split = split_samples(samples, valid_share=valid_share, seed=seed, known=known)
            splits.append(split)
            return {**(memory or {}), key_after: split.memory(samples)}
        splits.append(split)
        return {**(memory or {}), key: {**known, **split.memory(samples)}}

    change_splits(file, change)
    return splits[0]


def _holds_out(split: Split, samples: Sequence[Sample], members: Collection[str]) -> bool:
    """Whether a split has one of these picsets and pictures in validation."""
    valid = split.part(samples, VALID)
    return any(sample.own_unit in members or sample.picture_unit in members for sample in valid)


def _sides_in(memory: Any, key: str, where: Path) -> dict[str, str]:
    """The sides that a memory of splits holds under a key."""
    found = {} if memory is None else memory.get(key, {}) if isinstance(memory, dict) else None
    if not isinstance(found, dict) or not set(found.values()) <= {TRAIN, VALID}:
        raise TrainingError(
            "holds a memory of splits that cannot be read",
            code="split_memory_unreadable",
            where=where,
            hint="remove 'splits' from it (or the file itself, if it is splits.json): a new split is made",
        )
    return found


def _key(seed: int, valid_share: float) -> str:
    return f"seed {seed}, share {valid_share:g}"
