"""One inference from pictures to tables, a contact sheet and sorted folders; interrupted, it goes on where it was."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

from cls.errors import PredictionError
from cls.prediction.journal import JournalEntry, PredictionJournal, identity_of, open_journal
from cls.prediction.predict import PeopleFinder
from cls.prediction.sources import Sources
from cls.prediction.work import (
    FoundPictures,
    Job,
    jobs_of,
    pending_chunks,
    records_of_photos,
    records_of_video,
    still_unreadable,
)
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

    Args:
        classifier: what predicts.
        finder: says who is in a picture.
        sources: the pictures.
        outputs: where results go.
        runner: looks at the photos instead of this process.

    Raises:
        PredictionError: no picture could be used, the network cannot be run, or another process writes there.
        FileError: somebody else's file is where a result would go.
    """
    outputs.check()
    every = sources.every
    photos, videos = jobs_of(sources, finder, every)
    with open_journal(outputs.journal, identity_of(classifier)) as journal:
        _look_at_photos(photos, journal, runner or partial(_records, classifier, finder, journal))
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


def _records(
    classifier: Classifier, finder: PeopleFinder, journal: PredictionJournal, chunks: Sequence[Sequence[Job]]
) -> Iterator[list[JournalEntry]]:
    return records_of_photos(chunks, classifier, finder, journal)


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
