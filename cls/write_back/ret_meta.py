"""Predictions in the collector's words: a PICSET with `trained` entries, one a person.

What people or other tools wrote is never touched: an entry that is not ours keeps its place, its box and its words, and
where it already says something of a group, the prediction gives way to it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from cls.bottle.layout import META_FILE, Bottle
from cls.collector.payloads import Box, Picset, TrainedEntry, entry_of, picset_of
from cls.errors import BottleError, FileError, PackageError
from cls.files import read_json, sha256_of_bytes
from cls.package.meta import META_FILE_NAME, read_meta
from cls.people.photos import Person
from cls.people.polygons import is_id
from cls.write_back.statements import (
    OwnStatements,
    SentJournal,
    Statement,
    person_of,
    statements_of,
    statements_of_entry,
)

RET_META_NAME = "ret_meta.json"
# The people of ret_meta.json; a file of its own, because that one is a PICSET.
RET_META_PEOPLE_NAME = "ret_meta_people.json"
_SAME_PERSON_IOU = 0.5
_NOBODYS = OwnStatements()


class PersonRow(NamedTuple):
    """A statement of ret_meta.json, and the id of the person whom it is about."""

    picture: str
    gender: Any
    box_xyxy_rel: Box
    group: str
    category: tuple[str, ...] | None
    person: str


class RetMetaPicset(BaseModel):
    """The picset of ret_meta_people.json."""

    guid: str


class RetMetaPeople(BaseModel):
    """The content of ret_meta_people.json."""

    model_config = ConfigDict(frozen=True)

    picset: RetMetaPicset
    items: tuple[PersonRow, ...]


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

    def entry(self) -> TrainedEntry:
        """The person as an entry of `trained`."""
        groups = [
            {"group": group, "category": list(labels) or [f"{group} trash"]} for group, labels in self.labels.items()
        ]
        return entry_of({"gender": self.person_class, "bbox": list(self.box_xyxy_rel), "groups": groups})


@dataclass(frozen=True)
class Merged:
    """A PICSET with predictions."""

    picset: Picset
    added: tuple[Statement, ...]


def box_rel(person: Person, height_px: int, width_px: int) -> Box:
    """A person's box as fractions of the photo, within it, to six digits."""
    left, top, right, bottom = person.box_xyxy_px
    fractions = (left / width_px, top / height_px, right / width_px, bottom / height_px)
    x1, y1, x2, y2 = (round(min(max(value, 0.0), 1.0), 6) for value in fractions)
    return x1, y1, x2, y2


def with_predictions(
    picset: Picset,
    people: Mapping[str, Sequence[PredictedPerson]],
    runs: Mapping[str, str],
    ours: OwnStatements = _NOBODYS,
) -> Merged:
    """A PICSET with predictions; everything else is kept as it came.

    What we said of these groups before gives way. A person whom an entry is known of (by the id that an entry of ours
    was sent for, else boxes that overlap by half) is added to that entry, so that the groups of models that saw another
    segmentation meet in one; where somebody else has said something of a group there, nothing is added for it.

    Args:
        picset: as the collector has it.
        people: picture -> who is in it; items of other pictures are left alone.
        runs: group -> name of the run that predicted it.
        ours: which of the statements that stand there we wrote.

    Returns:
        A new PICSET. The same arguments give the same, and so does itself in place of `picset` once what was added
        counts as ours.
    """
    trained: dict[int, list[TrainedEntry]] = {}
    added: list[Statement] = []
    for place, item in enumerate(picset.items):
        if item.picture is not None and item.picture in people:
            kept = _without_ours(item.picture, item.trained or (), set(runs), ours)
            trained[place], new = _merged(item.picture, kept, people[item.picture])
            added += new
    # A group of which others have said everything stays under the name that they gave it.
    ours_now = {statement.group for statement in added}
    others_now = {statement.group for statement in statements_of(picset.with_trained(trained, {}))} - ours_now
    versions = {group: run for group, run in runs.items() if group not in others_now}
    return Merged(picset.with_trained(trained, versions), tuple(added))


def without_statements(
    picset: Picset, groups: Collection[str], ours: OwnStatements, versions: Mapping[str, str]
) -> Picset:
    """A PICSET without what we said of groups; everything else is kept as it came.

    Args:
        picset: as the collector has it.
        groups: which groups.
        ours: which statements of them are to go.
        versions: group -> what `neural_version` shall say of it from now on.
    """
    trained = {
        place: [known.entry for known in _without_ours(item.picture, item.trained, set(groups), ours)]
        for place, item in enumerate(picset.items)
        if item.picture is not None and item.trained is not None
    }
    return picset.with_trained(trained, versions)


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


@dataclass(frozen=True)
class _Known:
    """An entry that stays, and the id of its person where we sent it for one."""

    entry: TrainedEntry
    person: str

    @property
    def box(self) -> Box | None:
        """The box of an entry that lists what is said of a person; None for any other."""
        return None if self.entry.groups is None else self.entry.box_xyxy_rel

    def likeness(self, person: PredictedPerson) -> float:
        """How surely it is about a person: 1 to 2 by the ids, 0 to 1 by the boxes where an id is not known."""
        overlap = iou(self.box, person.box_xyxy_rel)
        if not self.person or not person.id:
            return overlap
        return 1 + overlap if self.person == person.id else 0.0


def _without_ours(picture: str, known: Sequence[TrainedEntry], groups: set[str], ours: OwnStatements) -> list[_Known]:
    """The entries of an item without our statements of groups; an entry of which nothing is left goes."""
    kept: list[_Known] = []
    for entry in known:
        all_labels = entry.groups or ()
        others = [labels for labels in all_labels if labels.group not in groups or not ours.has(picture, entry, labels)]
        if len(others) == len(all_labels):
            kept.append(_Known(entry, ours.person_of(picture, entry)))
        # What somebody added to an entry of ours stays, even when nothing else of it does.
        elif others or not entry.is_bare:
            kept.append(_Known(entry.with_groups(others), ours.person_of(picture, entry)))
    return kept


def _merged(
    picture: str, kept: Sequence[_Known], people: Sequence[PredictedPerson]
) -> tuple[list[TrainedEntry], list[Statement]]:
    """The entries that stay, with what is predicted added to those of the same people, and new ones after them."""
    twins = _twins(kept, people)
    merged = [known.entry for known in kept]
    added: list[Statement] = []
    standing = [statement for entry in merged for statement in statements_of_entry(picture, entry)]
    for number, person in enumerate(people):
        of_others = [kept[place] for other, place in twins.items() if other != number]
        known = {
            labels.group
            for entry in kept
            if entry.likeness(person) >= _SAME_PERSON_IOU and not any(entry is one for one in of_others)
            for labels in entry.entry.groups or ()
        }
        predicted = person.entry()
        new = [labels for labels in predicted.groups or () if labels.group not in known]
        twin = merged[twins[number]] if number in twins else predicted.with_groups(())
        new_statements = [replace(one, person=person.id) for one in statements_of_entry(picture, twin.with_groups(new))]
        # Word for word what somebody else has said: later nobody could tell which of the two is ours.
        if not new_statements or any(one.is_same(other) for one in new_statements for other in standing):
            continue
        entry = twin.with_groups((*(twin.groups or ()), *new))
        if number in twins:
            merged[twins[number]] = entry
        else:
            merged.append(entry)
        added += new_statements
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


@dataclass(frozen=True)
class FilePredictions:
    """What one file predicts.

    Attributes:
        runs: group -> the run that predicted it.
        people: every picture of the picset -> the people in it, with what is said of these groups.
    """

    runs: Mapping[str, str]
    people: Mapping[str, tuple[PredictedPerson, ...]] = field(repr=False)

    def of_groups(self, groups: Sequence[str]) -> FilePredictions:
        """The same for some of the groups."""
        people = {
            picture: tuple(
                PredictedPerson(person.person_class, person.box_xyxy_rel, labels, person.id)
                for person in found
                if (labels := {group: names for group, names in person.labels.items() if group in groups})
            )
            for picture, found in self.people.items()
        }
        return FilePredictions({group: run for group, run in self.runs.items() if group in groups}, people)


@dataclass(frozen=True)
class PicsetPredictions:
    """What is predicted for a picset.

    Attributes:
        layers: one a file, the oldest first; no two of the same group.
    """

    guid: str
    layers: tuple[FilePredictions, ...]

    @property
    def runs(self) -> dict[str, str]:
        """Group -> the run that predicted it."""
        return {group: run for layer in self.layers for group, run in layer.runs.items()}

    @cached_property
    def digest(self) -> str:
        """The same for the same predictions, however the files are laid out."""
        people = [
            [picture, [person.entry().source for person in layer.people[picture]]]
            for layer in self.layers
            for picture in sorted(layer.people)
        ]
        return sha256_of_bytes(json.dumps([self.runs, people], sort_keys=True, default=str).encode())


def read_predictions(bottle: Bottle, groups: Sequence[str], journal: SentJournal) -> list[PicsetPredictions]:
    """The predictions in the ret_meta.json files of groups.

    A picset of several groups has a file with each of them: of a group in several files, the newest counts.

    Args:
        bottle: the data folder.
        groups: whose picsets.
        journal: tells what a file repeats of our own words and what of others'.

    Raises:
        BottleError: a group has no such file; the hint says how to make them.
        FileError: one is not JSON.
        CollectorError: one is not a PICSET.
    """
    found: dict[str, list[tuple[float, FilePredictions]]] = {}
    for group in groups:
        files = sorted(bottle.meta(group).glob(f"*/{RET_META_NAME}"))
        if not files:
            raise BottleError(
                f"group '{group}' has no {RET_META_NAME}",
                code="no_ret_meta",
                where=bottle.meta(group),
                hint=f'run `cls segment-meta --groups "{group}"` first',
            )
        for file in files:
            guid, layer = _layer_of_file(bottle, file, journal)
            found.setdefault(guid, []).append((file.stat().st_mtime, layer))
    return [PicsetPredictions(guid, _newest(layers)) for guid, layers in found.items()]


def _newest(layers: list[tuple[float, FilePredictions]]) -> tuple[FilePredictions, ...]:
    """The layers from the oldest to the newest, each with the groups that are in no newer one."""
    kept: list[FilePredictions] = []
    seen: set[str] = set()
    for _, layer in sorted(layers, key=lambda item: -item[0]):
        groups = [group for group in layer.runs if group not in seen]
        seen.update(groups)
        if groups:
            kept.insert(0, layer.of_groups(groups))
    return tuple(kept)


def _layer_of_file(bottle: Bottle, file: Path, journal: SentJournal) -> tuple[str, FilePredictions]:
    picset = picset_of(read_json(file), where=file)
    meta = _meta_beside(file)
    known_versions = meta.versions if meta else {}
    runs = {
        group: run
        for group, run in picset.versions.items()
        if known_versions.get(group) != run or _is_run(bottle, group, run)
    }
    # What meta.json says in the same words was there before us, unless we had sent it.
    repeated = [
        statement
        for statement in (statements_of(meta) if meta else ())
        if statement.group in runs and not journal.was_ever_sent(picset.guid, statement)
    ]
    named = _named_beside(file)
    people: dict[str, tuple[PredictedPerson, ...]] = {}
    for item in picset.items:
        if item.picture is not None:
            found = _people_of(item.picture, item.trained or (), runs, repeated)
            of_picture = [statement for statement in named if statement.picture == item.picture]
            people[item.picture] = tuple(replace(one, id=_id_of(item.picture, one, of_picture)) for one in found)
    return picset.guid, FilePredictions(runs, people)


def _people_of(
    picture: str, trained: Sequence[TrainedEntry], runs: Mapping[str, str], repeated: Sequence[Statement]
) -> tuple[PredictedPerson, ...]:
    people: list[PredictedPerson] = []
    for entry in trained:
        labels = {
            statement.group: statement.category
            for statement in statements_of_entry(picture, entry)
            if statement.group in runs
            and statement.category is not None
            and not any(statement.is_same(other) for other in repeated)
        }
        if labels and entry.box_xyxy_rel is not None:
            people.append(PredictedPerson(entry.gender, entry.box_xyxy_rel, labels))
    return tuple(people)


def _named_beside(file: Path) -> list[Statement]:
    """The statements of a ret_meta.json with the people they are about; none beside a file of an older version."""
    try:
        named = RetMetaPeople.model_validate_json(file.with_name(RET_META_PEOPLE_NAME).read_bytes())
    except (OSError, ValidationError):
        return []  # it tells names alone: without it, people are told by their boxes
    return [Statement(*row[:5], person=row.person) for row in named.items if is_id(row.person)]


def _id_of(picture: str, person: PredictedPerson, named: Sequence[Statement]) -> str:
    """The id of the person of an entry in ret_meta.json."""
    ids = {person_of(statement, named) for statement in statements_of_entry(picture, person.entry())}
    return ids.pop() if len(ids) == 1 else ""


def _meta_beside(file: Path) -> Picset | None:
    try:
        return picset_of(read_json(file.with_name(META_FILE)), where=file)
    except FileError:
        return None  # without it, all that the file says counts as predicted


def _is_run(bottle: Bottle, group: str, run: str) -> bool:
    """Whether a run is of this bottle: by its folder, or by the package made from it."""
    if "/" not in run and (bottle.models(group) / run).is_dir():
        return True
    try:
        return read_meta(bottle.inference_model(group) / META_FILE_NAME).training.run == run
    except (FileError, PackageError):
        return False
