"""What the ret_meta.json files of groups predict, one picset with the layers of all its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from cls.bottle.layout import Bottle
from cls.collector.payloads import Picset, TrainedEntry, picset_of
from cls.errors import BottleError, FileError, PackageError
from cls.files import read_json, sha256_of_bytes
from cls.package.meta import META_FILE_NAME, read_meta
from cls.people.identity import is_id
from cls.write_back.ret_meta import META_NAME, RET_META_NAME, RET_META_PEOPLE_NAME, PredictedPerson, RetMetaPeople
from cls.write_back.sent_journal import SentJournal
from cls.write_back.statements import (
    Statement,
    person_of,
    statements_of,
    statements_of_entry,
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
            [picture, [person.entry().source for person in layer.people[picture]]]
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
    told = meta.versions if meta else {}
    runs = {
        group: run for group, run in picset.versions.items() if told.get(group) != run or _is_run(bottle, group, run)
    }
    # What meta.json says in the same words was there before us, unless we had sent it.
    repeated = [
        said
        for said in (statements_of(meta) if meta else ())
        if said.group in runs and not journal.was_ever_sent(picset.guid, said)
    ]
    named = _named_beside(file)
    people: dict[str, tuple[PredictedPerson, ...]] = {}
    for item in picset.items:
        if item.picture is not None:
            found = _people_of(item.picture, item.trained or (), runs, repeated)
            of_picture = [said for said in named if said.picture == item.picture]
            people[item.picture] = tuple(replace(one, id=_id_of(item.picture, one, of_picture)) for one in found)
    return picset.guid, Layer(runs, people)


def _people_of(
    picture: str, trained: Sequence[TrainedEntry], runs: Mapping[str, str], repeated: Sequence[Statement]
) -> tuple[PredictedPerson, ...]:
    people: list[PredictedPerson] = []
    for entry in trained:
        labels = {
            said.group: said.category
            for said in statements_of_entry(picture, entry)
            if said.group in runs and said.category is not None and not any(said.is_same(other) for other in repeated)
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
    ids = {person_of(said, named) for said in statements_of_entry(picture, person.entry())}
    return ids.pop() if len(ids) == 1 else ""


def _meta_beside(file: Path) -> Picset | None:
    try:
        return picset_of(read_json(file.with_name(META_NAME)), where=file)
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
