"""One inference from pictures to tables, a contact sheet and sorted folders; interrupted, it goes on where it was."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from cls.errors import FileError, PredictionError
from cls.files import sha256_of_bytes, sha256_of_file
from cls.pages.render import jpeg_bytes
from cls.people.photos import read_photo
from cls.prediction.contact_sheet import MAX_CARDS
from cls.prediction.journal import (
    FoundPerson,
    FoundPictures,
    Job,
    JournalEntry,
    PredictionJournal,
    identity_of,
    open_journal,
)
from cls.prediction.predict import (
    CHUNK,
    PeopleFinder,
    PhotoPrediction,
    PictureSource,
    Read,
    outlines_json,
    predict_chunk,
    read_ahead,
)
from cls.prediction.sources import Frame, FrameInterval, Sources, frames_of
from cls.prediction.tables import check_replaceable
from cls.prediction.writing import Outputs, SessionSummary, write_results
from cls.progress import progress
from cls.runtimes.classifier import Classifier
from cls.wording import counted

# Looks at chunks of photos somewhere else; yields what was found, a chunk at a time, in any order.
ChunkRunner = Callable[[Sequence[Sequence[Job]]], Iterator[list[JournalEntry]]]


def predict_to_files(
    classifier: Classifier,
    finder: PeopleFinder,
    sources: Sources,
    outputs: Outputs,
    *,
    runner: ChunkRunner | None = None,
) -> SessionSummary:
    """Predicts and writes the results; broken pictures are skipped, counted and listed.

    Photos are looked at by this process, or by `runner`.

    Raises:
        PredictionError: no picture could be used, the network cannot be run, or another process writes there.
        FileError: somebody else's file is where a result would go.
    """
    check_replaceable(outputs.files)
    every = sources.every
    photos, videos = jobs_of(sources, finder)
    with open_journal(outputs.journal, identity_of(classifier)) as journal:
        _look_at_photos(photos, journal, runner or partial(records_of_photos, classifier, finder, journal))
        for video in videos:
            if video.key not in journal:
                _look_at_video(video, journal, records_of_video(video, every, classifier, finder, journal))
        pictures = FoundPictures(photos, videos, journal)
        if not pictures.is_any_usable():
            raise _none_usable(sources, pictures)
        summary = write_results(classifier, pictures, outputs, every)
        journal.finish()
    return summary


def _none_usable(sources: Sources, pictures: FoundPictures) -> PredictionError:
    name, reason = next(iter(pictures.skipped.items()))
    files = (*sources.photos, *sources.videos)
    if len(files) == 1:
        return PredictionError(reason, code="no_usable_photo", where=files[0], hint="check the file")
    kinds = ((len(sources.photos), "photo"), (len(sources.videos), "video"))
    counts = " and ".join(counted(number, word) for number, word in kinds if number)
    return PredictionError(
        f"none of the {counts} could be used ({name}: {reason})",
        code="no_usable_photo",
        where=sources.root,
        hint="check the files",
    )


def _look_at_photos(photos: Sequence[Job], journal: PredictionJournal, look: ChunkRunner) -> None:
    """Fills the journal with the photos that are missing."""
    journal.add(still_unreadable(pending_chunks(photos, journal), journal))
    chunks = pending_chunks(photos, journal)
    left = sum(len(chunk) for chunk in chunks)
    if left < len(photos):
        log = logging.getLogger("cls")
        log.info("done before: %d of %s", len(photos) - left, counted(len(photos), "photo"))
    found = look(chunks)
    with progress("photos classified", left) if left else nullcontext() as ticker:
        for records in found:
            journal.add(records)
            if ticker is not None:
                ticker.advance(len(records))


def _look_at_video(video: Job, journal: PredictionJournal, found: Iterator[list[JournalEntry]]) -> None:
    """Fills the journal with the frames of a video that are missing."""
    with progress(f"frames of {video.name} classified") as ticker:
        for records in found:
            journal.add(records)
            ticker.advance(len(records))


def jobs_of(sources: Sources, finder: PeopleFinder) -> tuple[list[Job], list[Job]]:
    """What there is to do: photos, and videos."""
    segmenter = sha256_of_file(finder.segmenter_file) if finder.segmenter_file is not None else ""
    unknown = "whole" if finder.is_whole else f"segmenter {segmenter}, the largest first"
    photos: list[Job] = []
    for file in sources.photos:
        name, people = sources.name(file), finder.known.get(file)
        who = unknown if people is None or finder.is_whole else outlines_json(people)
        ids = None if people is None else tuple(person.id for person in people)
        photos.append(Job(file, name, _key(name, file, who), ids))
    named = [(file, sources.name(file)) for file in sources.videos]
    videos = [Job(file, name, _key(f"{name} every {sources.every}", file, unknown)) for file, name in named]
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
    classifier: Classifier, finder: PeopleFinder, journal: PredictionJournal, chunks: Sequence[Sequence[Job]]
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
    while video.frame_key(done) in journal:
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
            keys = [video.frame_key(place + offset) for offset in range(len(chunk))]
            place += len(chunk)
            yield records_of_chunk(read, keys, classifier, finder, MAX_CARDS - journal.card_count)
        if len(chunk) < CHUNK:
            break
    yield [JournalEntry(video.key, skipped=problem, frames=place)]


def records_of_chunk(
    read: Sequence[Read], keys: Sequence[str], classifier: Classifier, finder: PeopleFinder, cards: int
) -> list[JournalEntry]:
    """Looks at a few pictures that were read, with their keys; `cards` cut-outs are missing in the contact sheet."""
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


def _key(name: str, file: Path, who: str) -> str:
    try:
        state = file.stat()
        size_bytes, changed_ns = state.st_size, state.st_mtime_ns
    except OSError:  # reading it reports why
        size_bytes, changed_ns = 0, 0
    return sha256_of_bytes(f"{name}|{size_bytes}|{changed_ns}|{who}".encode())[:32]
