"""Builds ret_meta.json beside each meta.json: what the groups' exported models say of the picsets' photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cls.bottle.layout import Bottle
from cls.collector.payloads import Picset, picset_of
from cls.errors import BottleError, CollectorError, FileError
from cls.files import read_json, write_json_atomic
from cls.prediction.people_of_photos import people_finder
from cls.prediction.predict import predict_photos
from cls.prediction.ret_meta import (
    META_NAME,
    RET_META_NAME,
    PredictedPerson,
    box_rel,
    picture_of_item,
    with_predictions,
)
from cls.prediction.runtime import Classifier
from cls.progress import progress

NOT_IN_POOL = "not in the pool of pictures: run `cls load-group`"


@dataclass
class BuildSummary:
    """What a build did.

    Attributes:
        runs: group -> the run whose model predicted it.
        picsets: meta.json files read.
        written: ret_meta.json files that are new or changed.
        pictures: photos predicted.
        people: people in them.
        skipped: photo or meta.json -> why it was skipped.
    """

    runs: dict[str, str]
    picsets: int = 0
    written: int = 0
    pictures: int = 0
    people: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def build_ret_meta(
    bottle: Bottle, classifiers: Sequence[Classifier], *, segmenter_path: Path | None = None
) -> BuildSummary:
    """Predicts the photos of all picsets of the classifiers' groups and writes ret_meta.json beside each meta.json.

    Every classifier looks at every photo: a picset collected for one group gets the others' labels too, one entry a
    person. A photo in several picsets is looked at once. Files that would not change are left alone.

    Args:
        bottle: the data folder.
        classifiers: one a group.
        segmenter_path: for photos that have not been segmented; see `people_finder`.

    Raises:
        BottleError: a group has no meta.json.
        PredictionError: nothing is known of who is in the photos, or a network cannot be run.
    """
    summary = BuildSummary({classifier.group: classifier.name for classifier in classifiers})
    picsets = _read_picsets(bottle, list(summary.runs), summary)
    summary.picsets = len(picsets)
    names = dict.fromkeys(
        name
        for picset in picsets.values()
        for item in picset.content.get("items") or []
        if (name := picture_of_item(item)) is not None
    )
    people = _predicted(bottle, classifiers, list(names), segmenter_path, summary)
    for meta_file, picset in picsets.items():
        content = with_predictions(picset.content, people, summary.runs)
        if _write_if_changed(meta_file.with_name(RET_META_NAME), content):
            summary.written += 1
    return summary


def _read_picsets(bottle: Bottle, groups: Sequence[str], summary: BuildSummary) -> dict[Path, Picset]:
    picsets: dict[Path, Picset] = {}
    for group in groups:
        files = sorted(bottle.meta(group).glob(f"*/{META_NAME}"))
        if not files:
            raise BottleError(
                f"group '{group}' has no picsets",
                where=bottle.meta(group),
                hint=f'run `cls load-group --group "{group}"` first',
            )
        for file in files:
            try:
                picsets[file] = picset_of(read_json(file), where=file)
            except (FileError, CollectorError) as error:
                summary.skipped[str(file.relative_to(bottle.root))] = error.what
    return picsets


def _predicted(
    bottle: Bottle,
    classifiers: Sequence[Classifier],
    names: Sequence[str],
    segmenter_path: Path | None,
    summary: BuildSummary,
) -> dict[str, list[PredictedPerson]]:
    """Picture -> who is in it, for the pictures that could be looked at."""
    files = [bottle.picture(name) for name in names]
    present = [file for file in files if file.is_file()]
    summary.skipped.update({file.name: NOT_IN_POOL for file in files if not file.is_file()})
    if not present:
        return {}
    finder = people_finder(bottle, present, segmenter_path=segmenter_path)
    skipped: dict[Path, str] = {}
    people: dict[str, list[PredictedPerson]] = {}
    with progress("photos classified", len(present)) as ticker:
        for photo in predict_photos(present, classifiers, finder, skipped):
            ticker.advance()
            people[photo.file.name] = [
                PredictedPerson(
                    person.cls,
                    box_rel(person, photo.height_px, photo.width_px),
                    {
                        classifier.group: classifier.chosen(table[number])
                        for classifier, table in zip(classifiers, photo.probs, strict=True)
                    },
                )
                for number, person in enumerate(photo.people)
            ]
    summary.pictures = len(people)
    summary.people = sum(len(found) for found in people.values())
    summary.skipped.update({file.name: reason for file, reason in skipped.items()})
    return people


def _write_if_changed(path: Path, content: Mapping[str, object]) -> bool:
    try:
        if read_json(path) == content:
            return False
    except FileError:
        pass  # missing, or not JSON: it is written anew
    write_json_atomic(path, content)
    return True
