"""Predictions in the collector's words: a PICSET with `trained` entries, one a person (spec section 5)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cls.people.person import Person

META_NAME = "meta.json"
RET_META_NAME = "ret_meta.json"
# `filepath` entries shorter than this are placeholders.
_SHORTEST_PATH = 5
_SAME_PERSON_IOU = 0.5

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PredictedPerson:
    """One person with the labels of several groups.

    Attributes:
        person_class: e.g. `female`.
        box_xyxy_rel: left, top, right, bottom as fractions of the photo's width and height.
        labels: group -> the labels chosen for it.
    """

    person_class: str
    box_xyxy_rel: Box
    labels: Mapping[str, tuple[str, ...]]

    def entry(self) -> dict[str, Any]:
        """The person as an entry of `trained`."""
        return {
            "gender": self.person_class,
            "bbox": list(self.box_xyxy_rel),
            "groups": [
                {"group": group, "category": list(labels) or [f"{group} trash"]}
                for group, labels in self.labels.items()
            ],
        }


def box_rel(person: Person, height_px: int, width_px: int) -> Box:
    """A person's box as fractions of the photo, within it, to six digits."""
    left, top, right, bottom = person.box_xyxy_px
    fractions = (left / width_px, top / height_px, right / width_px, bottom / height_px)
    x1, y1, x2, y2 = (round(min(max(value, 0.0), 1.0), 6) for value in fractions)
    return x1, y1, x2, y2


def picture_of_item(item: Any) -> str | None:
    """The name in the pool of an item's photo; None for a placeholder."""
    origin = item.get("origin") if isinstance(item, dict) else None
    filepath = origin.get("filepath") if isinstance(origin, dict) else None
    if not isinstance(filepath, str) or len(filepath) < _SHORTEST_PATH:
        return None
    return PurePosixPath(filepath).name or None


def with_predictions(
    content: Mapping[str, Any], people: Mapping[str, Sequence[PredictedPerson]], runs: Mapping[str, str]
) -> dict[str, Any]:
    """A PICSET with predictions; everything else is kept as it came.

    Entries that stood there before give way where they speak of the same groups: a person found again keeps what was
    said of other groups, one not found again is kept as far as others spoke of them.

    Args:
        content: the PICSET of meta.json.
        people: picture -> who is in it; items of other pictures are left alone.
        runs: group -> name of the run that predicted it.

    Returns:
        A new PICSET. The same arguments give the same, and so does its own result in place of `content`.
    """
    result: dict[str, Any] = copy.deepcopy(dict(content))
    for item in result.get("items") or []:
        picture = picture_of_item(item)
        if picture is not None and picture in people:
            item["trained"] = _merged(item.get("trained"), people[picture], set(runs))
    head = result["picset"]
    known = head.get("neural_version")
    head["neural_version"] = {**(known if isinstance(known, dict) else {}), **runs}
    return result


def _merged(known: Any, people: Sequence[PredictedPerson], groups: set[str]) -> list[dict[str, Any]]:
    """Entries of an item: the new people with what others say of them, then the known entries left over."""
    left = [kept for entry in (known if isinstance(known, list) else []) if (kept := _of_others(entry, groups))]
    merged = []
    for person in people:
        entry = person.entry()
        twin = max(left, key=lambda other: _iou(other, person.box_xyxy_rel), default=None)
        if twin is not None and _iou(twin, person.box_xyxy_rel) >= _SAME_PERSON_IOU:
            left.remove(twin)
            entry = {**twin, **entry, "groups": [*twin["groups"], *entry["groups"]]}
        merged.append(entry)
    return merged + left


def _of_others(entry: Any, groups: set[str]) -> dict[str, Any] | None:
    """An entry without what it says of our groups; None when nothing is left, the entry itself if it says nothing."""
    if not isinstance(entry, dict):
        return None
    said = entry.get("groups")
    if not isinstance(said, list):
        return entry
    kept = [part for part in said if not (isinstance(part, dict) and part.get("group") in groups)]
    if len(kept) == len(said):
        return entry
    return {**entry, "groups": kept} if kept else None


def _iou(entry: Mapping[str, Any], box: Box) -> float:
    """Intersection over union of a stored entry's box, whatever it is, and one of ours; 0 for one without groups."""
    known = entry.get("bbox")
    if not entry.get("groups") or not isinstance(entry["groups"], list):
        return 0.0
    if not isinstance(known, list) or len(known) != 4 or not all(isinstance(value, (int, float)) for value in known):
        return 0.0
    width = min(known[2], box[2]) - max(known[0], box[0])
    height = min(known[3], box[3]) - max(known[1], box[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared: float = width * height
    areas: float = (known[2] - known[0]) * (known[3] - known[1]) + (box[2] - box[0]) * (box[3] - box[1])
    return shared / (areas - shared)
