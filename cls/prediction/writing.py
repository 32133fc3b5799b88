"""Tables, contact sheet and sorted folders, written from what was found."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from cls.errors import FileError
from cls.prediction.contact_sheet import MAX_CARDS, SheetCounts, SheetPerson, write_contact_sheet
from cls.prediction.found_pictures import FoundPictures
from cls.prediction.journal import Record
from cls.prediction.outputs import Outputs
from cls.prediction.results import PersonResult, writing_tables
from cls.prediction.sorting import Sorter
from cls.prediction.video import Every, frames_of
from cls.prediction.work import Job
from cls.runtimes.classifier import Classifier


@dataclass(frozen=True)
class SessionSummary:
    """What an inference did.

    Attributes:
        counts: of pictures looked at and people found; skipped pictures are not among them.
        skipped: picture -> why it was skipped; a video that ended early is among them.
        written: tables, and the contact sheet.
        placed: pictures sorted into folders.
        blocked: places in those folders that somebody else's file holds.
        removed: places in those folders that a picture had by an earlier sorting and has no more.
    """

    counts: SheetCounts
    skipped: dict[str, str]
    written: tuple[Path, ...]
    placed: int = 0
    blocked: tuple[str, ...] = ()
    removed: int = 0


@dataclass
class _Sorting:
    """Photos are sorted as they come; frames afterwards, each video read once more."""

    sorter: Sorter
    every: Every
    frames: dict[Job, dict[int, tuple[str, ...]]] = field(default_factory=dict)

    def add(self, job: Job, record: Record, labels: tuple[str, ...]) -> None:
        if record.frame is None:
            self.sorter.place(job.file, job.name, labels)
        else:
            self.frames.setdefault(job, {})[record.frame] = labels

    def finish(self) -> None:
        for video, labels_of in self.frames.items():
            self._sort_frames(video, labels_of)
        self.sorter.finish()

    def _sort_frames(self, video: Job, labels_of: dict[int, tuple[str, ...]]) -> None:
        part = self.sorter.folder / ".frame.part.jpg"
        try:
            for frame in frames_of(video.file, self.every, labels_of.__contains__):
                _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame.image_rgb, cv2.COLOR_RGB2BGR))
                part.write_bytes(jpeg.tobytes())
                name = f"{video.name}_{frame.number:06d}.jpg"
                self.sorter.place(part, name, labels_of[frame.number], origin=video.file)
                part.unlink()  # the next one is another file: the sorted ones are links to this
        except FileError:
            if video.file.is_file():
                return  # it ended early, which the summary says already
            raise


def write_results(
    classifier: Classifier, pictures: FoundPictures, outputs: Outputs, thresholds_text: str, every: Every
) -> SessionSummary:
    """Decides by the thresholds and writes everything that was asked for.

    Args:
        classifier: its labels and thresholds.
        pictures: what was found.
        outputs: what goes where.
        thresholds_text: which thresholds are used, in words.
        every: which frames of videos were looked at.

    Raises:
        FileError: something cannot be written.
    """
    sorting = None
    if outputs.sorted_folder is not None:
        sorting = _Sorting(Sorter(outputs.sorted_folder), every)
        sorting.sorter.start()
    counts, shown = _write_tables(classifier, pictures, outputs, sorting)
    if sorting is not None:
        sorting.finish()
    if outputs.sheet is not None:
        write_contact_sheet(
            outputs.sheet,
            classifier,
            shown,
            counts,
            table_name=next(iter(outputs.tables.values())).name,
            thresholds_text=thresholds_text,
            skipped=pictures.skipped,
        )
    written = (*outputs.tables.values(), *([outputs.sheet] if outputs.sheet else []))
    sorter = sorting.sorter if sorting is not None else None
    placed, removed, blocked = (sorter.placed, sorter.removed, tuple(sorter.blocked)) if sorter else (0, 0, ())
    return SessionSummary(counts, pictures.skipped, written, placed, blocked, removed)


def _write_tables(
    classifier: Classifier, pictures: FoundPictures, outputs: Outputs, sorting: _Sorting | None
) -> tuple[SheetCounts, list[SheetPerson]]:
    counts = SheetCounts()
    shown: list[SheetPerson] = []
    with writing_tables(outputs.tables, classifier.labels, has_frames=bool(pictures.videos)) as table:
        for job, record in pictures:
            counts.photos += record.frame is None
            counts.frames += record.frame is not None
            results = _results_of(job, record, classifier)
            for result in results:
                table.write(result)
                counts.add(result)
            cards = zip(results, record.cards, strict=False)
            shown += [SheetPerson(result, base64.b64decode(card)) for result, card in cards]
            if sorting is not None:
                chosen = {label for result in results for label in result.labels}
                sorting.add(job, record, tuple(label for label in classifier.labels if label in chosen))
    return counts, shown[:MAX_CARDS]


def _results_of(job: Job, record: Record, classifier: Classifier) -> list[PersonResult]:
    """The people of a picture. The journal has them in the order of the job's ids: its key changes with them."""
    return [
        PersonResult(
            picture=job.name,
            person=str(number) if job.ids is None else job.ids[number],
            person_class=found.person_class,
            person_conf=found.conf,
            box_xyxy_px=found.box_xyxy_px,
            probs=dict(zip(classifier.labels, found.probs, strict=True)),
            labels=classifier.chosen(found.probs),
            frame=record.frame,
            time_s=record.time_s,
        )
        for number, found in enumerate(record.people)
    ]
