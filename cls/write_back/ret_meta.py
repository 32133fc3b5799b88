"""Predictions in the collector's words: a PICSET with `trained` entries, one a person (spec section 5).

What people or other tools wrote is never touched: an entry that is not ours keeps its place, its box and its words, and
where it already says something of a group, the prediction gives way to it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cls.people.photos import Person
from cls.write_back.statements import (
    Box,
    Ours,
    Statement,
    box_of,
    group_of,
    is_bare,
    parts_of,
    picture_of_item,
    statement_of,
    statements_of,
)

META_NAME = "meta.json"
RET_META_NAME = "ret_meta.json"
# Whom ret_meta.json speaks of; a file of its own, because that one is a PICSET.
RET_META_PEOPLE_NAME = "ret_meta_people.json"
_SAME_PERSON_IOU = 0.5
_NOBODYS = Ours()


@dataclass(frozen=True)
class PredictedPerson:
    """One person with the labels of several groups.

    Attributes:
        person_class: e.g. `female`.
        box_xyxy_rel: left, top, right, bottom as fractions of the photo's width and height.
        labels: group -> the labels chosen for it.
        id: the person's id in the pictures database; empty where it is not known.
    """

    person_class: str
    box_xyxy_rel: Box
    labels: Mapping[str, tuple[str, ...]]
    id: str = ""

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


@dataclass(frozen=True)
class Merged:
    """A PICSET with predictions.

    Attributes:
        content: the PICSET.
        added: what was said in it, as it stands there now.
    """

    content: dict[str, Any]
    added: tuple[Statement, ...]


def box_rel(person: Person, height_px: int, width_px: int) -> Box:
    """A person's box as fractions of the photo, within it, to six digits."""
    left, top, right, bottom = person.box_xyxy_px
    fractions = (left / width_px, top / height_px, right / width_px, bottom / height_px)
    x1, y1, x2, y2 = (round(min(max(value, 0.0), 1.0), 6) for value in fractions)
    return x1, y1, x2, y2


def with_predictions(
    content: Mapping[str, Any],
    people: Mapping[str, Sequence[PredictedPerson]],
    runs: Mapping[str, str],
    ours: Ours = _NOBODYS,
) -> Merged:
    """A PICSET with predictions; everything else is kept as it came.

    What we said of these groups before gives way. A person whom an entry is known of (by the id that an entry of ours
    was sent for, else boxes that overlap by half) is added to that entry, so that the groups of models that saw another
    segmentation meet in one; where somebody else has said something of a group there, nothing is added for it.

    Args:
        content: the PICSET as the collector has it.
        people: picture -> who is in it; items of other pictures are left alone.
        runs: group -> name of the run that predicted it.
        ours: which of the statements that stand there we wrote.

    Returns:
        A new PICSET. The same arguments give the same, and so does its own content in place of `content` once what was
        added counts as ours.
    """
    result: dict[str, Any] = copy.deepcopy(dict(content))
    added: list[Statement] = []
    for item in result.get("items") or []:
        picture = picture_of_item(item)
        if picture is not None and picture in people and isinstance(item.get("trained"), (list, type(None))):
            kept = _without_ours(picture, item.get("trained"), set(runs), ours)
            item["trained"], new = _merged(picture, kept, people[picture])
            added += new
    # A group of which others have said everything stays under the name that they gave it.
    ours_now = {statement.group for statement in added}
    others_now = {statement.group for statement in statements_of(result)} - ours_now
    _put_versions(result, {group: run for group, run in runs.items() if group not in others_now})
    return Merged(result, tuple(added))


def without_statements(
    content: Mapping[str, Any], groups: Collection[str], ours: Ours, versions: Mapping[str, str]
) -> dict[str, Any]:
    """A PICSET without what we said of groups; everything else is kept as it came.

    Args:
        content: the PICSET as the collector has it.
        groups: which groups.
        ours: which statements of them are to go.
        versions: group -> what `neural_version` shall say of it from now on.
    """
    result: dict[str, Any] = copy.deepcopy(dict(content))
    for item in result.get("items") or []:
        picture = picture_of_item(item)
        if picture is not None and isinstance(item.get("trained"), list):
            item["trained"] = [known.entry for known in _without_ours(picture, item["trained"], set(groups), ours)]
    _put_versions(result, versions)
    return result


def iou(one: Box | None, two: Box | None) -> float:
    """Intersection over union of two boxes, 0 to 1; 0 for one that could not be read."""
    if one is None or two is None:
        return 0.0
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((one[2] - one[0]) * (one[3] - one[1]) + (two[2] - two[0]) * (two[3] - two[1]) - shared)


def _put_versions(result: dict[str, Any], runs: Mapping[str, str]) -> None:
    head = result["picset"]
    known = head.get("neural_version")
    if runs:
        head["neural_version"] = {**(known if isinstance(known, dict) else {}), **runs}


@dataclass(frozen=True)
class _Known:
    """An entry that stays, and the id of its person where we sent it for one."""

    entry: Any
    person: str

    @property
    def box(self) -> Box | None:
        """The box of an entry that lists what is said of a person; None for any other."""
        if not isinstance(self.entry, dict) or not isinstance(self.entry.get("groups"), list):
            return None
        return box_of(self.entry.get("bbox"))

    def likeness(self, person: PredictedPerson) -> float:
        """How surely it is about a person: 1 to 2 by the ids, 0 to 1 by the boxes where an id is not known."""
        overlap = iou(self.box, person.box_xyxy_rel)
        if not self.person or not person.id:
            return overlap
        return 1 + overlap if self.person == person.id else 0.0


def _without_ours(picture: str, known: Any, groups: set[str], ours: Ours) -> list[_Known]:
    """The entries of an item without our statements of groups; an entry of which nothing is left goes."""
    kept: list[_Known] = []
    for entry in known if isinstance(known, list) else []:
        said = parts_of(entry)
        others = [part for part in said if group_of(part) not in groups or not ours.has(picture, entry, part)]
        if len(others) == len(said):
            kept.append(_Known(entry, ours.person_of(picture, entry)))
        # What somebody added to an entry of ours stays, even when nothing else of it does.
        elif others or not is_bare(entry):
            kept.append(_Known({**entry, "groups": others}, ours.person_of(picture, entry)))
    return kept


def _merged(
    picture: str, kept: Sequence[_Known], people: Sequence[PredictedPerson]
) -> tuple[list[Any], list[Statement]]:
    """The entries that stay, with what is predicted added to those of the same people, and new ones after them."""
    twins = _twins(kept, people)
    merged = [known.entry for known in kept]
    added: list[Statement] = []
    standing = [one for entry in merged for part in parts_of(entry) if (one := statement_of(picture, entry, part))]
    for number, person in enumerate(people):
        of_others = [kept[place] for other, place in twins.items() if other != number]
        known = {
            group_of(part)
            for entry in kept
            if entry.likeness(person) >= _SAME_PERSON_IOU and not any(entry is one for one in of_others)
            for part in parts_of(entry.entry)
        }
        parts = [part for part in person.entry()["groups"] if part["group"] not in known]
        twin = merged[twins[number]] if number in twins else {**person.entry(), "groups": []}
        said = [
            replace(one, person=person.id) for part in parts if (one := statement_of(picture, twin, part)) is not None
        ]
        # Word for word what somebody else has said: later nobody could tell which of the two is ours.
        if not said or any(one.is_same(other) for one in said for other in standing):
            continue
        entry = {**twin, "groups": [*parts_of(twin), *parts]}
        if number in twins:
            merged[twins[number]] = entry
        else:
            merged.append(entry)
        added += said
    return merged, added


def _twins(kept: Sequence[_Known], people: Sequence[PredictedPerson]) -> dict[int, int]:
    """Person -> the entry of the same person; of several candidates, the most alike find each other first."""
    pairs = [
        (entry.likeness(person), number, place)
        for number, person in enumerate(people)
        for place, entry in enumerate(kept)
    ]
    twins: dict[int, int] = {}
    taken: set[int] = set()
    for likeness, number, place in sorted(pairs, key=lambda item: (-item[0], item[1], item[2])):
        if likeness >= _SAME_PERSON_IOU and number not in twins and place not in taken:
            twins[number] = place
            taken.add(place)
    return twins
