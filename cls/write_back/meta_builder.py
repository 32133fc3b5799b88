"""Builds ret_meta.json beside each meta.json: what the groups' exported models say of the picsets' photos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

from cls.bottle.layout import META_FILE, Bottle
from cls.bottle.ledger import KnownModel, remember_models
from cls.collector.payloads import Box, Picset, picset_of
from cls.errors import BottleError, CollectorError, FileError
from cls.files import read_json, remove_parts, sha256_of_bytes, sha256_of_file, write_json_atomic
from cls.people.photos import Person
from cls.prediction.config import PredictConfig
from cls.prediction.predict import (
    PeopleFinder,
    PhotoPrediction,
    outlines_json,
    people_finder,
    predict_photos,
)
from cls.progress import Ticker, progress
from cls.records import JsonLines
from cls.runtimes.classifier import Classifier
from cls.write_back.ret_meta import (
    RET_META_NAME,
    RET_META_PEOPLE_NAME,
    PersonRow,
    PredictedPerson,
    RetMetaPeople,
    RetMetaPicset,
    box_rel,
    with_predictions,
)
from cls.write_back.statements import OwnStatements, SentJournal, read_journal

FOLDER = "predictions"

NOT_IN_POOL = "not in the pool of pictures: run `cls load-group`"

# So many photos are predicted before their picsets' files are written.
_PHOTOS_A_BATCH = 64


class _KnownPhoto(NamedTuple):
    """A photo's key, and its people: class, box, group -> labels."""

    key: str
    people: list[tuple[str, Box, Mapping[str, tuple[str, ...]]]]


class PredictionMemory:
    """Predictions of photos by everything they depend on; a file of the bottle's cache, which may be deleted.

    Args:
        path: one JSON line a photo; a line cut off by a kill does not count.
    """

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path, _KnownPhoto)
        self._known = {key: tuple(starmap(PredictedPerson, people)) for key, people in self._lines.read()}

    def get(self, key: str) -> tuple[PredictedPerson, ...] | None:
        """Who is in a photo; None when it has not been looked at in this state."""
        return self._known.get(key)

    def add(self, predictions: Mapping[str, Sequence[PredictedPerson]]) -> None:
        """Keeps the predictions of some photos, by their keys."""
        lines = [
            _KnownPhoto(key, [(one.person_class, one.box_xyxy_rel, one.labels) for one in people])
            for key, people in predictions.items()
        ]
        if lines:
            self._lines.append(*lines)
        self._known.update({key: tuple(people) for key, people in predictions.items()})


def memory_of(bottle: Bottle, classifiers: Sequence[Classifier]) -> PredictionMemory:
    """The memory of these classifiers as they are: with other weights or thresholds they have another."""
    parts = [
        [
            one.group,
            one.name,
            one.labels,
            one.thresholds,
            one.preprocessing.to_dict(),
            sha256_of_file(Path(one.source)) if Path(one.source).is_file() else one.source,
        ]
        for one in classifiers
    ]
    digest = sha256_of_bytes(json.dumps(parts, ensure_ascii=False).encode())
    return PredictionMemory(bottle.cache / FOLDER / f"{digest[:32]}.jsonl")


def key_of_photo(file: Path, people: Sequence[Person] | None, segmenter_sha256: str) -> str:
    """What a photo's prediction depends on, besides the classifiers: its file, and who is said to be in it.

    Args:
        file: the photo.
        people: whom the pictures database knows in it; None when the segmentation model is asked.
        segmenter_sha256: digest of that model.
    """
    state = file.stat()
    who = segmenter_sha256
    if people is not None:
        who = sha256_of_bytes(outlines_json(people).encode())
    return f"{file.name}|{state.st_size}|{state.st_mtime_ns}|{who}"


@dataclass
class BuildSummary:
    """What a build did.

    Attributes:
        runs: group -> the run whose model predicted it.
        picsets: meta.json files read.
        written: ret_meta.json files that are new or changed.
        remembered: those of them that an earlier build had looked at.
        people: people in them.
        skipped: photo or meta.json -> why it was skipped.
    """

    runs: dict[str, str]
    picsets: int = 0
    written: int = 0
    pictures: int = 0
    remembered: int = 0
    people: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def build_ret_meta(
    bottle: Bottle, classifiers: Sequence[Classifier], config: PredictConfig | None = None
) -> BuildSummary:
    """Predicts the photos of all picsets of the classifiers' groups and writes ret_meta.json beside each meta.json.

    Every classifier looks at every photo: a picset collected for one group gets the others' labels too, one entry a
    person. A photo in several picsets is looked at once. Files that would not change are left alone. Predictions are
    kept in the bottle's cache as they are made: a build that was killed goes on where it was.

    Args:
        bottle: the data folder.
        classifiers: one a group.
        config: which segmentation model finds the people of photos that have not been segmented; see `people_finder`.

    Raises:
        BottleError: a group has no meta.json.
        PredictionError: nothing is known of who is in the photos, or a network cannot be run.
    """
    remember_models(
        bottle.root,
        [KnownModel(one.group, one.name, one.weights_sha256, one.version, has_predicted=True) for one in classifiers],
    )
    summary = BuildSummary({classifier.group: classifier.name for classifier in classifiers})
    picsets = _read_picsets(bottle, list(summary.runs), summary)
    summary.picsets = len(picsets)
    photos = _photos_of(bottle, picsets, summary)
    journal = read_journal(bottle.root, bottle.settings.collector_url)
    predictor = _PhotoPredictor(bottle, classifiers, config, list(photos.values()), summary) if photos else None
    with progress("photos classified", len(photos)) as ticker:
        for batch in _batches(picsets, photos):
            if predictor is not None:
                names = [name for picset in batch.values() for name in _names_of(picset) if name in photos]
                predictor.predict({name: photos[name] for name in names}, ticker)
            people = predictor.people if predictor is not None else {}
            for meta_file, picset in batch.items():
                summary.written += _write(meta_file, picset, people, summary.runs, journal)
    return summary


class _PhotoPredictor:
    """Predicts photos, each once, and remembers the predictions.

    Attributes:
        people: picture -> who is in it, for the pictures predicted so far.
    """

    def __init__(
        self,
        bottle: Bottle,
        classifiers: Sequence[Classifier],
        config: PredictConfig | None,
        files: Sequence[Path],
        summary: BuildSummary,
    ) -> None:
        self.people: dict[str, tuple[PredictedPerson, ...]] = {}
        self._classifiers = classifiers
        self._summary = summary
        self._finder: PeopleFinder = people_finder(bottle, files, config or PredictConfig(), is_whole_offered=False)
        self._memory: PredictionMemory = memory_of(bottle, classifiers)
        segmenter_file = self._finder.segmenter_file
        self._segmenter_sha256 = "" if segmenter_file is None else sha256_of_file(segmenter_file)

    def predict(self, photos: Mapping[str, Path], ticker: Ticker) -> None:
        """Predicts the photos that have not been looked at, in this build or an earlier one."""
        keys: dict[Path, str] = {}
        for name, file in photos.items():
            if name in self.people or name in self._summary.skipped:
                continue
            key = key_of_photo(file, self._finder.known.get(file), self._segmenter_sha256)
            known = self._memory.get(key)
            if known is None:
                keys[file] = key
                continue
            # An id is kept with the row, not with the outlines by which the prediction is found again.
            ids = [person.id for person in self._finder.known.get(file) or ()] or [""] * len(known)
            self._remember(name, tuple(replace(one, id=id_) for one, id_ in zip(known, ids, strict=True)))
            self._summary.remembered += 1
            ticker.advance()
        skipped: dict[Path, str] = {}
        new: dict[str, tuple[PredictedPerson, ...]] = {}
        for photo in predict_photos(list(keys), self._classifiers, self._finder, skipped):
            ticker.advance()
            file = photo.source.file
            new[keys[file]] = self._remember(file.name, self._people_of(photo))
        self._memory.add(new)
        self._summary.skipped.update({file.name: reason for file, reason in skipped.items()})

    def _remember(self, name: str, people: tuple[PredictedPerson, ...]) -> tuple[PredictedPerson, ...]:
        self.people[name] = people
        self._summary.pictures += 1
        self._summary.people += len(people)
        return people

    def _people_of(self, photo: PhotoPrediction) -> tuple[PredictedPerson, ...]:
        return tuple(
            PredictedPerson(
                person.cls,
                box_rel(person, photo.height_px, photo.width_px),
                {
                    classifier.group: classifier.chosen(table[number])
                    for classifier, table in zip(self._classifiers, photo.probs, strict=True)
                },
                person.id,
            )
            for number, person in enumerate(photo.people)
        )


def _read_picsets(bottle: Bottle, groups: Sequence[str], summary: BuildSummary) -> dict[Path, Picset]:
    picsets: dict[Path, Picset] = {}
    for group in groups:
        files = sorted(bottle.meta(group).glob(f"*/{META_FILE}"))
        if not files:
            raise BottleError(
                f"group '{group}' has no picsets",
                code="no_picsets",
                where=bottle.meta(group),
                hint=f'run `cls load-group --group "{group}"` first',
            )
        for file in files:
            try:
                picsets[file] = picset_of(read_json(file), where=file)
            except (FileError, CollectorError) as error:
                summary.skipped[str(file.relative_to(bottle.root))] = error.what
    return picsets


def _names_of(picset: Picset) -> list[str]:
    return [item.picture for item in picset.items if item.picture is not None]


def _photos_of(bottle: Bottle, picsets: Mapping[Path, Picset], summary: BuildSummary) -> dict[str, Path]:
    """The photos that are there, by name; those that are not are listed as skipped."""
    names = dict.fromkeys(name for picset in picsets.values() for name in _names_of(picset))
    files = {name: bottle.picture(name) for name in names}
    summary.skipped.update({name: NOT_IN_POOL for name, file in files.items() if not file.is_file()})
    return {name: file for name, file in files.items() if file.is_file()}


def _batches(picsets: Mapping[Path, Picset], photos: Mapping[str, Path]) -> Iterator[dict[Path, Picset]]:
    """A few picsets at a time."""
    batch: dict[Path, Picset] = {}
    count = 0
    for meta_file, picset in picsets.items():
        batch[meta_file] = picset
        count += sum(name in photos for name in _names_of(picset))
        if count >= _PHOTOS_A_BATCH:
            yield batch
            batch, count = {}, 0
    if batch:
        yield batch


def _write(
    meta_file: Path,
    picset: Picset,
    people: Mapping[str, Sequence[PredictedPerson]],
    runs: Mapping[str, str],
    journal: SentJournal,
) -> bool:
    """Writes a picset's ret_meta.json if it changes, and the file of its people; returns whether the former did."""
    merged = with_predictions(picset, people, runs, OwnStatements(journal.of(picset.guid).statements_alone))
    named = RetMetaPeople(
        picset=RetMetaPicset(guid=picset.guid),
        items=tuple(
            PersonRow(
                statement.picture,
                statement.gender,
                statement.box_xyxy_rel,
                statement.group,
                statement.category,
                statement.person,
            )
            for statement in merged.added
            if statement.person and statement.box_xyxy_rel is not None
        ),
    )
    _write_if_changed(meta_file.with_name(RET_META_PEOPLE_NAME), named.model_dump(mode="json"))
    return _write_if_changed(meta_file.with_name(RET_META_NAME), merged.picset.content)


def _write_if_changed(path: Path, content: Any) -> bool:
    remove_parts(path.parent, path.name)
    try:
        if read_json(path) == content:
            return False
    except FileError:
        pass  # missing, or not JSON: it is written again
    write_json_atomic(path, content)
    return True
