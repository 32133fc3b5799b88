"""What the ret_meta.json files of groups predict, one picset with the layers of all its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cls.bottle.layout import Bottle
from cls.collector.payloads import picset_of
from cls.errors import BottleError, FileError, PackageError
from cls.files import read_json, sha256_of_bytes
from cls.package.meta import META_FILE_NAME, read_meta
from cls.people.identity import is_id
from cls.write_back.ret_meta import META_NAME, RET_META_NAME, RET_META_PEOPLE_NAME, PredictedPerson
from cls.write_back.sent_journal import SentJournal
from cls.write_back.statements import (
    Statement,
    box_of,
    category_of,
    group_of,
    parts_of,
    person_of,
    picture_of_item,
    statement_of,
    statements_of,
    versions_of,
)


@dataclass(frozen=True)
class Layer:
    """What one file predicts.

    Attributes:
        runs: group -> the run that predicted it.
        people: every picture of the picset -> the people in it, with what is said of these groups.
    """

    runs: Mapping[str, str]
    people: Mapping[str, tuple[PredictedPerson, ...]] = field(repr=False)

    def of_groups(self, groups: Sequence[str]) -> Layer:
        """The same for some of the groups."""
        people = {
            picture: tuple(
                PredictedPerson(person.person_class, person.box_xyxy_rel, labels, person.id)
                for person in found
                if (labels := {group: said for group, said in person.labels.items() if group in groups})
            )
            for picture, found in self.people.items()
        }
        return Layer({group: run for group, run in self.runs.items() if group in groups}, people)


@dataclass(frozen=True)
class PicsetPredictions:
    """What is predicted for a picset.

    Attributes:
        guid: the picset.
        layers: one a file, the oldest first; no two speak of the same group.
    """

    guid: str
    layers: tuple[Layer, ...]

    @property
    def runs(self) -> dict[str, str]:
        """Group -> the run that predicted it."""
        return {group: run for layer in self.layers for group, run in layer.runs.items()}

    @cached_property
    def digest(self) -> str:
        """The same for the same predictions, however the files are laid out."""
        people = [
            [picture, [person.entry() for person in layer.people[picture]]]
            for layer in self.layers
            for picture in sorted(layer.people)
        ]
        return sha256_of_bytes(json.dumps([self.runs, people], sort_keys=True, default=str).encode())


def read_predictions(bottle: Bottle, groups: Sequence[str], journal: SentJournal) -> list[PicsetPredictions]:
    """The predictions in the ret_meta.json files of groups.

    A picset of several groups has a file with each of them: of a group that several files speak of, the newest counts.

    Args:
        bottle: the data folder.
        groups: whose picsets.
        journal: tells what a file repeats of our own words and what of others'.

    Raises:
        BottleError: a group has no such file; the hint says how to make them.
        FileError: one is not JSON.
        CollectorError: one is not a PICSET.
    """
    found: dict[str, list[tuple[float, Layer]]] = {}
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


def _newest(layers: list[tuple[float, Layer]]) -> tuple[Layer, ...]:
    """The layers from the oldest to the newest, each with the groups that no newer one speaks of."""
    kept: list[Layer] = []
    seen: set[str] = set()
    for _, layer in sorted(layers, key=lambda item: -item[0]):
        groups = [group for group in layer.runs if group not in seen]
        seen.update(groups)
        if groups:
            kept.insert(0, layer.of_groups(groups))
    return tuple(kept)


def _layer_of_file(bottle: Bottle, file: Path, journal: SentJournal) -> tuple[str, Layer]:
    picset = picset_of(read_json(file), where=file)
    meta = _meta_beside(file)
    told = versions_of(meta) if meta else {}
    runs = {
        group: str(run)
        for group, run in versions_of(picset.content).items()
        if told.get(group) != run or _is_run(bottle, group, str(run))
    }
    # What meta.json says in the same words was there before us, unless we had sent it.
    repeated = [
        said
        for said in (statements_of(meta) if meta else ())
        if said.group in runs and not journal.was_ever_sent(picset.guid, said)
    ]
    named = _named_beside(file)
    people: dict[str, tuple[PredictedPerson, ...]] = {}
    for item in picset.content.get("items") or []:
        picture = picture_of_item(item)
        if picture is not None:
            found = _people_of(picture, item.get("trained"), runs, repeated)
            of_picture = [said for said in named if said.picture == picture]
            people[picture] = tuple(replace(one, id=_id_of(picture, one, of_picture)) for one in found)
    return picset.guid, Layer(runs, people)


def _people_of(
    picture: str, trained: Any, runs: Mapping[str, str], repeated: Sequence[Statement]
) -> tuple[PredictedPerson, ...]:
    people: list[PredictedPerson] = []
    for entry in trained if isinstance(trained, list) else []:
        labels: dict[str, tuple[str, ...]] = {}
        for part in parts_of(entry):
            group, said = group_of(part), statement_of(picture, entry, part)
            category = category_of(part.get("category")) if group in runs else None
            if group is None or said is None or category is None:
                continue
            if not any(said.is_same(other) for other in repeated):
                labels[group] = category
        box = box_of(entry.get("bbox")) if labels else None
        if box is not None:
            people.append(PredictedPerson(entry.get("gender"), box, labels))
    return tuple(people)


def _named_beside(file: Path) -> list[Statement]:
    """The statements of a ret_meta.json with the people they are about; none beside a file of an older version."""
    try:
        content = read_json(file.with_name(RET_META_PEOPLE_NAME))
        rows = content["items"] if isinstance(content, dict) else []
        return [replace(Statement.from_json(row[:-1]), person=row[-1]) for row in rows if is_id(row[-1])]
    except (FileError, ValueError, KeyError, TypeError, IndexError):
        return []  # it tells names alone: without it, people are told by their boxes


def _id_of(picture: str, person: PredictedPerson, named: Sequence[Statement]) -> str:
    """The id of the person of an entry in ret_meta.json."""
    entry = person.entry()
    said = (statement_of(picture, entry, part) for part in parts_of(entry))
    ids = {person_of(one, named) for one in said if one is not None}
    return ids.pop() if len(ids) == 1 else ""


def _meta_beside(file: Path) -> Mapping[str, Any] | None:
    try:
        return picset_of(read_json(file.with_name(META_NAME)), where=file).content
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
