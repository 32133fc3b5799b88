"""Finds the people in every photo of a bottle and writes them into the pictures database, resumably."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from cls.bottle.layout import Bottle, read_forgotten
from cls.bottle.ledger import remember_model
from cls.errors import BottleError, FileError
from cls.files import read_json, write_json_atomic
from cls.machine import cores
from cls.people.photos import Person, decode_photo_reduced, read_photo_bytes
from cls.pictures.database import PictureRecord, PicturesDatabase, Status
from cls.progress import Ticker, progress
from cls.segmentation.config import SegmentConfig
from cls.segmentation.segmenter import PersonSegmenter, check_model_file, load_segmenter
from cls.wording import counted

_log = logging.getLogger("cls.segmentation")

# Large photos are read smaller while the longer side stays above this. Masks lose nothing: a network sees less than
# that, and its masks are drawn no finer.
_ENOUGH_PX = 640

_LISTED_BROKEN = 5  # in the log; the report lists all


@dataclass(frozen=True)
class ReadPhoto:
    """A photo as displayed, perhaps smaller than its file.

    Attributes:
        image_rgb: uint8 (height, width, 3).
    """

    path: Path
    image_rgb: NDArray[np.uint8]
    width_px: int
    height_px: int

    def in_full_size(self, person: Person) -> Person:
        """A person found in `image_rgb`, with the box in pixels of the whole photo."""
        scale_x = self.width_px / self.image_rgb.shape[1]
        scale_y = self.height_px / self.image_rgb.shape[0]
        left, top, right, bottom = person.box_xyxy_px
        return replace(person, box_xyxy_px=(left * scale_x, top * scale_y, right * scale_x, bottom * scale_y))


def read_for_segmentation(path: Path) -> ReadPhoto:
    """Reads a photo as displayed, a large JPEG at reduced size."""
    image_rgb, (height_px, width_px) = decode_photo_reduced(read_photo_bytes(path), _ENOUGH_PX, where=path)
    return ReadPhoto(path, image_rgb, width_px, height_px)


def read_ahead(paths: Iterable[Path], *, threads: int, depth: int) -> Iterator[ReadPhoto | FileError]:
    """Yields photos, or the errors of broken ones, in order, while threads read up to `depth` ahead."""
    waiting: deque[Future[ReadPhoto | FileError]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="photos")
    try:
        for path in paths:
            waiting.append(pool.submit(_read_or_error, path))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read_or_error(path: Path) -> ReadPhoto | FileError:
    try:
        return read_for_segmentation(path)
    except FileError as error:
        return error


class SegmentationModel(NamedTuple):
    """A segmentation model that is loaded when it is needed; `version` is its name in the database."""

    version: str
    load: Callable[[], PersonSegmenter]


@dataclass
class BuildReport:
    """What a segmentation did.

    Attributes:
        skipped: pictures that had a row already.
        people: people found, by people class.
        empty: photos written in which nobody was found.
        kept: photos written again whose status somebody had decided and which keep it, by status.
        broken: files that could not be read, with the reason; no row is written for them.
        seconds: how long it took once the model was loaded.
    """

    model_version: str
    skipped: int = 0
    photos: int = 0
    people: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


_REPORT = TypeAdapter(BuildReport)


def list_pictures(folder: Path, forgotten: Container[str] = ()) -> list[str]:
    """File names of a pictures folder, sorted; hidden and unfinished files are left out, forgotten ones with a warning.

    Raises:
        BottleError: there is no folder, or nothing in it.
    """
    hint = "load a group first: `cls load-group --group GROUP`"
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
    except FileNotFoundError:
        raise BottleError("there are no pictures yet", code="no_pictures", where=folder, hint=hint) from None
    except OSError as error:
        raise BottleError(f"cannot be read: {error.strerror}", code="unreadable", where=folder) from error
    if not names:
        raise BottleError("there are no pictures yet", code="no_pictures", where=folder, hint=hint)
    kept = [name for name in names if name not in forgotten]
    if len(kept) < len(names):
        again = "`cls forget` them again, or let them be with `cls forget --allow NAME`"
        _log.warning("%s passed over: forgotten, and back: %s", counted(len(names) - len(kept), "picture"), again)
    return kept


def segment_photos(bottle: Bottle, path: Path, config: SegmentConfig) -> BuildReport:
    """Finds the people in every photo of a bottle, and writes them into its database and a report beside its masks.

    Raises:
        BottleError: there are no photos.
        SegmentationError: the model cannot be used.
        DatabaseError: the pictures database cannot be reached or used.
    """
    check_model_file(path)
    names = list_pictures(bottle.pictures, read_forgotten(bottle))

    def load() -> PersonSegmenter:
        segmenter = load_segmenter(path, people_classes=bottle.settings.people_classes, config=config)
        # Before the first mask is written: the database names only the version, and packages name the file.
        remember_model(bottle.segments, segmenter.model_version, path)
        return segmenter

    with PicturesDatabase.open(bottle.database_url) as database:
        report = build_segments(bottle.pictures, names, database, SegmentationModel(path.stem, load), config)
    write_report(bottle.segments, report)
    return report


def build_segments(
    pictures: Path, names: Sequence[str], database: PicturesDatabase, model: SegmentationModel, config: SegmentConfig
) -> BuildReport:
    """Goes through the photos; every batch is one transaction, so a killed run goes on where it stopped.

    Args:
        pictures: the folder of photos.
        names: file names in it, see `list_pictures`.
        database: where masks are written.
        model: loaded only when a photo is left to do.
        config: what is done again, and how.

    Raises:
        DatabaseError: the database failed; batches written so far are kept.
        SegmentationError: the model cannot be loaded or run.
    """
    report = BuildReport(model.version)
    if not config.process_all:
        known = database.known_paths(names)
        report.skipped = len(known)
        _log.info("DB already has %d images, that will be skipped during segmentation", report.skipped)
        names = [name for name in names if name not in known]
    segmenter: PersonSegmenter | None = None
    started_s = time.monotonic()
    paths = (pictures / name for name in names)
    photos = read_ahead(paths, threads=cores(), depth=2 * config.batch)
    try:
        with progress("photos segmented", len(names)) as ticker:
            for batch in _batches(photos, config.batch, report, ticker):
                if segmenter is None:
                    segmenter = model.load()
                    started_s = time.monotonic()  # the rate is of photos, not of loading libraries
                _write(batch, segmenter, database, config, report)
                ticker.advance(len(batch))
    finally:
        report.seconds = time.monotonic() - started_s
    return report


def _batches(
    photos: Iterator[ReadPhoto | FileError], size: int, report: BuildReport, ticker: Ticker
) -> Iterator[list[ReadPhoto]]:
    """Batches of readable photos; broken ones go into the report."""

    def readable() -> Iterator[ReadPhoto]:
        for photo in photos:
            if isinstance(photo, FileError):
                report.broken[Path(str(photo.where)).name] = photo.what
                ticker.advance()
                if len(report.broken) <= _LISTED_BROKEN:
                    _log.warning("%s: %s", photo.where, photo.what)
            else:
                yield photo

    rest = readable()
    while batch := list(islice(rest, size)):
        yield batch


def _write(
    batch: Sequence[ReadPhoto],
    segmenter: PersonSegmenter,
    database: PicturesDatabase,
    config: SegmentConfig,
    report: BuildReport,
) -> None:
    """Predicts a batch and writes it in one transaction."""
    found = segmenter.predict([photo.image_rgb for photo in batch])
    status = Status.APPROVED if config.mark_approved else Status.UNCHECKED
    records = []
    for photo, people in zip(batch, found, strict=True):
        whole = tuple(photo.in_full_size(person) for person in people)
        records.append(PictureRecord(photo.path.name, segmenter.model_version, status, whole))
        report.people.update(person.cls for person in whole)
        report.empty += not whole
    if config.process_all:
        report.kept.update(_kept_statuses(database, records))
    database.write_people(records, replace=config.process_all, overrule_status=config.mark_approved)
    report.photos += len(records)


def _kept_statuses(database: PicturesDatabase, records: Sequence[PictureRecord]) -> list[str]:
    """The statuses that new masks do not change: decided ones, or only rejected where this run approves."""
    before = database.records([record.path for record in records]).values()
    is_approving = any(record.status == Status.APPROVED for record in records)
    decided = {Status.REJECTED} if is_approving else {Status.REJECTED, Status.APPROVED}
    return [record.status for record in before if record.status in decided]


def write_report(folder: Path, report: BuildReport) -> Path:
    """Writes `report.json` into the bottle's segments folder and returns its path.

    A run that segmented nothing keeps the counts of the last one; only the list of broken files is its own.
    """
    path = folder / "report.json"
    content = replace(report, seconds=round(report.seconds, 2))
    if not report.photos:
        with suppress(FileError, ValidationError):  # missing or unreadable: nothing to keep
            content = replace(_REPORT.validate_python(read_json(path)), broken=report.broken)
    write_json_atomic(path, _REPORT.dump_python(content, mode="json"))
    return path
