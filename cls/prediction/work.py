"""The pictures an inference has to look at, in chunks, and what it finds in them as the journal keeps it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cls.errors import FileError
from cls.files import sha256_of_bytes, sha256_of_file
from cls.pages.render import jpeg_bytes
from cls.people.photos import read_photo
from cls.prediction.contact_sheet import MAX_CARDS
from cls.prediction.journal import FoundPerson, JournalEntry, PredictionJournal
from cls.prediction.predict import CHUNK, PeopleFinder, PhotoPrediction, PictureSource, Read, predict_chunk, read_ahead
from cls.prediction.sources import Frame, FrameInterval, Sources, frames_of
from cls.runtimes.classifier import Classifier


class FoundPictures:
    """Goes through the pictures as often as wanted, one at a time.

    Args:
        photos: of this inference; others in the journal are passed over.
        videos: likewise.
        journal: in which all of them are.

    Attributes:
        videos: likewise.
        skipped: picture -> why it could not be used; complete when all pictures have been gone through.
    """

    def __init__(self, photos: Sequence[Job], videos: Sequence[Job], journal: PredictionJournal) -> None:
        self._photos, self.videos, self._journal = photos, videos, journal
        self.skipped: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[Job, JournalEntry]]:
        for job, record in self._all():
            if record.skipped is None:
                yield job, record
            else:
                self.skipped[job.name] = record.skipped

    def is_any_usable(self) -> bool:
        """Whether a picture could be used."""
        return next(iter(self), None) is not None

    def _all(self) -> Iterator[tuple[Job, JournalEntry]]:
        """Photos, then the frames of each video; the end of a video only where it ended early."""
        for job in self._photos:
            yield job, self._journal.read(job.key)
        for video in self.videos:
            end = self._journal.read(video.key)
            for place in range(end.frames or 0):
                yield video, self._journal.read(frame_key(video, place))
            if end.skipped is not None:
                yield video, end


@dataclass(frozen=True)
class Job:
    """One photo or one video.

    Attributes:
        file: it.
        key: changes when the file does, or who is said to be in it.
        ids: of the people in it, where the pictures database knows them; None elsewhere.
    """

    file: Path
    name: str
    key: str
    ids: tuple[str, ...] | None = None


def jobs_of(sources: Sources, finder: PeopleFinder, every: FrameInterval) -> tuple[list[Job], list[Job]]:
    """What there is to do: photos, and videos."""
    segmenter = sha256_of_file(finder.segmenter_file) if finder.segmenter_file is not None else ""
    others = "whole" if finder.is_whole else f"segmenter {segmenter}, the largest first"
    photos = [
        Job(file, sources.name(file), _key(sources.name(file), file, finder, others), _ids(file, finder))
        for file in sources.photos
    ]
    videos = [
        Job(file, sources.name(file), _key(f"{sources.name(file)} every {every}", file, finder, others))
        for file in sources.videos
    ]
    return photos, videos


def pending_chunks(photos: Sequence[Job], journal: PredictionJournal) -> list[Sequence[Job]]:
    """The chunks in which something is left to do.

    A chunk is done as a whole: the same photos go through the networks together, whenever the work was interrupted, and
    so the numbers are the same to the last digit.
    """
    chunks = [photos[start : start + CHUNK] for start in range(0, len(photos), CHUNK)]
    return [chunk for chunk in chunks if any(job.key not in journal for job in chunk)]


def still_unreadable(chunks: Sequence[Sequence[Job]], journal: PredictionJournal) -> list[JournalEntry]:
    """The photos of an earlier run that could not be read and still cannot, where nothing else of their chunk is left.

    Kept in the journal, they cost no second look at the photos beside them.
    """
    found: list[JournalEntry] = []
    for chunk in chunks:
        missing = [job for job in chunk if job.key not in journal]
        if len(missing) == len(chunk):
            continue  # never looked at
        records = []
        for job in missing:
            try:
                read_photo(job.file)
            except FileError as error:
                records.append(JournalEntry(job.key, skipped=error.what))
            else:
                break
        if len(records) == len(missing):
            found += records
    return found


def records_of_photos(
    chunks: Sequence[Sequence[Job]], classifier: Classifier, finder: PeopleFinder, journal: PredictionJournal
) -> Iterator[list[JournalEntry]]:
    """Looks at chunks of photos; one list a chunk, in order."""
    files = [[job.file for job in chunk] for chunk in chunks]
    for chunk, read in zip(chunks, read_ahead(files), strict=True):
        yield records_of_chunk(read, [job.key for job in chunk], classifier, finder, MAX_CARDS - journal.card_count)


def records_of_video(
    video: Job, every: FrameInterval, classifier: Classifier, finder: PeopleFinder, journal: PredictionJournal
) -> Iterator[list[JournalEntry]]:
    """Looks at the frames of a video that are not in the journal; the last list says that the video is done."""
    done = 0
    while frame_key(video, done) in journal:
        done += 1
    first = done - done % CHUNK
    seen = 0

    def is_wanted(_number: int) -> bool:
        nonlocal seen
        seen += 1
        return seen > first

    problem: str | None = None
    place = first
    frames = frames_of(video.file, every, is_wanted)
    while True:
        chunk, problem = _next_frames(frames)
        if chunk:
            read: list[Read] = [
                (PictureSource(video.file, frame.number, frame.time_s), frame.image_rgb) for frame in chunk
            ]
            keys = [frame_key(video, place + offset) for offset in range(len(chunk))]
            place += len(chunk)
            yield records_of_chunk(read, keys, classifier, finder, MAX_CARDS - journal.card_count)
        if len(chunk) < CHUNK:
            break
    yield [JournalEntry(video.key, skipped=problem, frames=place)]


def frame_key(video: Job, place: int) -> str:
    """The key of a video's frame: its position among those looked at, from 0."""
    return f"{video.key}#{place}"


def records_of_chunk(
    read: Sequence[Read], keys: Sequence[str], classifier: Classifier, finder: PeopleFinder, cards: int
) -> list[JournalEntry]:
    """Looks at a few pictures that were read.

    Args:
        read: the pictures.
        keys: of the pictures.
        classifier: what predicts.
        finder: says who is in a picture.
        cards: how many cut-outs the contact sheet still lacks.
    """
    key_of = {source: key for (source, _), key in zip(read, keys, strict=True)}
    skipped: dict[PictureSource, str] = {}
    records: dict[str, JournalEntry] = {}
    for prediction in predict_chunk(read, [classifier], finder, skipped):
        record = _record_of(prediction, key_of[prediction.source], max(cards, 0))
        cards -= len(record.cards)
        records[record.key] = record
    records |= {
        key_of[source]: JournalEntry(key_of[source], frame=source.frame, time_s=source.time_s, skipped=reason)
        for source, reason in skipped.items()
    }
    return [records[key] for key in keys]


def _record_of(prediction: PhotoPrediction, key: str, cards: int) -> JournalEntry:
    people = tuple(
        FoundPerson(person.cls, person.conf, person.box_xyxy_px, tuple(probs.tolist()))
        for person, probs in zip(prediction.people, prediction.probs[0], strict=True)
    )
    jpegs = tuple(base64.b64encode(jpeg_bytes(crop)).decode() for crop in prediction.crops_rgb[:cards])
    return JournalEntry(key, people, jpegs, prediction.source.frame, prediction.source.time_s)


def _next_frames(frames: Iterator[Frame]) -> tuple[list[Frame], str | None]:
    """A chunk of frames, and why there are no more, where that is a fault."""
    chunk: list[Frame] = []
    try:
        for frame in frames:
            chunk.append(frame)
            if len(chunk) == CHUNK:
                break
    except FileError as error:
        return chunk, error.what
    return chunk, None


def _ids(file: Path, finder: PeopleFinder) -> tuple[str, ...] | None:
    known = finder.known.get(file)
    return None if known is None else tuple(person.id for person in known)


def _key(name: str, file: Path, finder: PeopleFinder, others: str) -> str:
    known = finder.known.get(file)
    who = others
    if known is not None and not finder.is_whole:
        who = json.dumps(
            [[one.cls, one.conf, one.box_xyxy_px, [line.tolist() for line in one.polygons_xy_rel]] for one in known],
            default=float,
        )
    try:
        state = file.stat()
        size_bytes, changed_ns = state.st_size, state.st_mtime_ns
    except OSError:  # whoever reads it says why
        size_bytes, changed_ns = 0, 0
    return sha256_of_bytes(f"{name}|{size_bytes}|{changed_ns}|{who}".encode())[:32]
