"""Whether two runs were validated on the same people with the same labels known: only then can they be compared."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from cls.dataset.samples import Sample
from cls.training.runs.listing import RunEntry

_DATA = {"dataset_sha256": "datasets", "split_sha256": "splits"}
# Settings that decide who is a sample, and which of the labels are known, of runs that have not written down both.
_SETTINGS = ("people", "subject", "incomplete")


def validated_on(samples: Sequence[Sample]) -> dict[str, str]:
    """What metrics.json says of validation's samples: two runs with the same digests measured the same.

    Args:
        samples: of validation, in any order.

    Returns:
        `people_sha256`: of picture, which of its people, and the outline's box in whole pixels; `labels_sha256`: of
        these with their labels, null where unknown.
    """
    people: list[list[Any]] = []
    labelled: list[list[Any]] = []
    for sample in samples:
        who = [sample.path, sample.number, *(round(float(edge)) for edge in sample.person.box_xyxy_px)]
        people.append(who)
        labelled.append([*who, *("unknown" if math.isnan(value) else str(float(value)) for value in sample.labels)])
    return {"people_sha256": _digest(people), "labels_sha256": _digest(labelled)}


def _digest(rows: list[list[Any]]) -> str:
    return hashlib.sha256(json.dumps(sorted(rows, key=str), ensure_ascii=False).encode()).hexdigest()


def kind_of_validation(entry: RunEntry) -> tuple[Any, ...]:
    """What a run was validated on: runs of one kind can be compared."""
    metrics = entry.metrics
    labels = tuple(map(str, metrics.get("labels") or ()))
    if (known := _validated_on(entry)) is not None:
        return (labels, known.get("people_sha256"), known.get("labels_sha256"))
    return (labels, *(metrics.get(key) for key in _DATA), *(str(entry.setting(key)) for key in _SETTINGS))


def why_not_comparable(first: RunEntry, second: RunEntry) -> list[str]:
    """What keeps two runs' measures from being compared; nothing where they can be."""
    problems = [
        f"{entry.name} was not measured"
        for entry in (first, second)
        if not isinstance(entry.metrics.get("validation"), dict)
    ]
    if problems:
        return problems
    if first.group != second.group:
        return ["they are of different groups"]
    if first.metrics.get("labels") != second.metrics.get("labels"):
        problems.append("different labels")
    one, other = _validated_on(first), _validated_on(second)
    if one is None or other is None:
        return [*problems, *_differences_of_older(first, second)]
    if one.get("people_sha256") != other.get("people_sha256"):
        return [*problems, "different people, or other outlines of them, in validation"]
    if one.get("labels_sha256") != other.get("labels_sha256"):
        problems.append("the same people in validation, but other labels of theirs")
    return problems


def trained_on_others(first: RunEntry, second: RunEntry) -> bool:
    """Whether datasets or splits differ, though validation is the same."""
    return any(first.metrics.get(key) != second.metrics.get(key) for key in _DATA)


def _differences_of_older(first: RunEntry, second: RunEntry) -> list[str]:
    """Where one of them does not say who was validated on: whatever might make a difference."""
    problems = [f"different {text}" for key, text in _DATA.items() if first.metrics.get(key) != second.metrics.get(key)]
    for key in _SETTINGS:
        values = [entry.setting(key) for entry in (first, second)]
        if values[0] != values[1]:
            shown = " and ".join("not given" if value is None else str(value) for value in values)
            problems.append(f"different --{key} ({shown})")
    return problems


def _validated_on(entry: RunEntry) -> dict[str, Any] | None:
    found = entry.metrics.get("validated_on")
    return found if isinstance(found, dict) else None
