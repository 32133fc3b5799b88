"""Tables, contact sheet and sorted folders, written from what was found."""

from __future__ import annotations

import base64
import filecmp
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import cv2

from cls.errors import FileError, UsageError
from cls.files import safe_name, write_error
from cls.prediction.contact_sheet import MAX_CARDS, SHEET_NAME, SheetCounts, SheetPerson, SheetText, write_contact_sheet
from cls.prediction.journal import FoundPictures, Job, JournalEntry
from cls.prediction.sources import FrameInterval, frames_of
from cls.prediction.tables import TABLE_FORMATS, PersonResult, TableFormat, writing_tables
from cls.records import JsonLines
from cls.runtimes.classifier import Classifier

NO_LABEL = "none of them"
_LIST_NAME = ".sorted_by_cls.jsonl"

DEFAULT_FORMATS: tuple[TableFormat, ...] = ("csv", "jsonl")
_STEM = "predictions"

# A folder may have a dot in its name (`of.today`); with one of these suffixes a file is meant.
_OTHER_FILES = {"xlsx", "xls", "ods", "tsv", "txt", "json", "ndjson", "feather", "db", "sqlite", "html", "md", "zip"}


@dataclass
class FolderSorter:
    """Puts pictures into folders, and removes what an earlier sorting put there of the same pictures.

    Other files are never touched: where one has the place, the picture is counted in `blocked`. Pictures that this
    sorting does not look at stay, too: they may be the only copies left.

    Raises:
        FileError: the folder cannot be made.

    Attributes:
        folder: holds a folder a label.
        placed: pictures put there, or there already.
        removed: places that a picture had before and has no more.
        blocked: places that somebody else's file, or another picture, holds.
    """

    folder: Path
    placed: int = 0
    removed: int = 0
    blocked: list[str] = field(default_factory=list)
    _old: dict[str, _Placed] = field(default_factory=dict)
    _new: dict[str, _Placed] = field(default_factory=dict)
    _origins: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error, "give another folder as --sort-into") from error
        # A file whose line is damaged counts as another's.
        self._old = {placed.place: placed for placed in self._list.read()}

    @property
    def _list(self) -> JsonLines[_Placed]:
        return JsonLines(self.folder / _LIST_NAME, _Placed)

    def place(self, source: Path, name: str, labels: Sequence[str], *, origin: Path | None = None) -> None:
        """Puts a picture into the folders of its labels, or of none.

        Args:
            source: the picture's file.
            name: what it is called below each label's folder, `/` between folders.
            labels: of the people in it, each once.
            origin: the file it is from, where that is another one: a frame's video.

        Raises:
            FileError: there is no space, or no permission.
        """
        is_own_file = origin is not None  # of a frame
        origin = origin or source
        self._origins[name] = origin
        for folder in map(_folder_of, labels) if labels else (NO_LABEL,):
            place = f"{folder}/{name}"
            target = self.folder / place
            if target.is_symlink() or target.exists():
                if not _is_same(source, target) and self._is_earlier_state(place, origin):
                    target.unlink()
                elif not _is_same(source, target):
                    self.blocked.append(place)
                    continue
            try:
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(source, target)
                is_link = not is_own_file and target.stat().st_nlink > 1
                self._new[place] = _Placed(place, _state(target), str(origin.resolve()), is_link)
            except OSError as error:
                raise write_error(target, error) from error
            self.placed += 1

    def finish(self) -> None:
        """Removes the places that the pictures had before and have no more, and writes the list for the next time."""
        kept: dict[str, _Placed] = {}
        looked_at = {str(origin.resolve()): origin for origin in self._origins.values()}
        for place, placed in self._old.items():
            if place in self._new:
                continue
            origin = looked_at.get(placed.origin) or self._origins.get(place.partition("/")[2])
            if origin is None or not self._is_earlier_state(place, origin):
                kept[place] = placed
                continue
            (self.folder / place).unlink()
            self.removed += 1
            with suppress(OSError):  # not empty
                (self.folder / place).parent.rmdir()
        there = {**kept, **self._new}
        self._list.replace(there[place] for place in there if (self.folder / place).exists())

    def _is_earlier_state(self, place: str, origin: Path) -> bool:
        """Whether a place holds what an earlier sorting put there of the very file: nothing is lost with it."""
        before, target = self._old.get(place), self.folder / place
        if before is None or not target.is_file() or _state(target) != before.state:
            return False
        if _is_same(origin, target):
            return True  # also in lists of older versions, which do not say where a file is from
        if before.is_link and target.stat().st_nlink == 1:
            return False  # another photo has taken the name since, and this is all that is left of the old one
        return before.origin == str(origin.resolve())


class _Placed(NamedTuple):
    """A file that was put somewhere: its size and time then, where it is from, and whether it is a link to that.

    Lists of earlier versions do not say where files are from.
    """

    place: str
    state: list[int]
    origin: str = ""
    is_link: bool = False


def _folder_of(label: str) -> str:
    """The folder of a label; `none of them` is that of pictures without one."""
    name = safe_name(label)
    return f"{name} (label)" if name == NO_LABEL else name


def _state(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _is_same(source: Path, target: Path) -> bool:
    if not target.is_file() or not source.is_file():
        return False
    return source.samefile(target) or filecmp.cmp(source, target, shallow=False)


def _link(source: Path, target: Path) -> None:
    try:
        # A link to a link would follow the wrong one when the source moves: take the file itself.
        os.link(source.resolve(), target)
    except OSError:
        part = target.with_name(f".{target.name[:80]}.part")
        shutil.copy2(source, part)
        part.replace(target)


@dataclass(frozen=True)
class Outputs:
    """The files of an inference.

    Attributes:
        tables: by format.
        sheet: the contact sheet; None where a table alone was asked for.
        journal: what was found so far.
        sorted_folder: where pictures are sorted into folders; None for nowhere.
        thresholds: which thresholds are used, in words, for the contact sheet.
    """

    tables: dict[TableFormat, Path]
    sheet: Path | None
    journal: Path
    sorted_folder: Path | None = None
    thresholds: str = "of the model, one a label"

    @property
    def files(self) -> tuple[Path, ...]:
        """Tables, and the contact sheet."""
        return (*self.tables.values(), *([self.sheet] if self.sheet else []))


def outputs_of(out: Path, formats: Sequence[TableFormat] = (), sorted_folder: Path | None = None) -> Outputs:
    """The files of an inference.

    Args:
        out: a folder, or a table's file by its suffix (.csv, .jsonl, .parquet).
        formats: of the tables in a folder; CSV and JSON lines by default.
        sorted_folder: where pictures are sorted into folders.

    Raises:
        UsageError: a file and other formats were asked for, or a kind of file that is not written.
    """
    suffix = out.suffix[1:].lower()
    file_format = next((name for name in TABLE_FORMATS if name == suffix), None)
    if suffix in _OTHER_FILES and not out.is_dir():
        kinds = ", ".join(f".{name}" for name in TABLE_FORMATS)
        raise UsageError(
            f"--out {out}: no table of that kind is written",
            code="unknown_option_value",
            hint=f"give one of {kinds}, or a folder",
        )
    if file_format is None or out.is_dir():
        tables = {name: out / f"{_STEM}.{name}" for name in formats or DEFAULT_FORMATS}
        return Outputs(tables, out / SHEET_NAME, out / f".{_STEM}.journal", sorted_folder)
    if formats and set(formats) != {file_format}:
        raise UsageError(
            f"--out names a .{suffix} file, and --format asks for {', '.join(formats)}", code="options_conflict"
        )
    return Outputs({file_format: out}, None, out.with_name(f".{out.name}.journal"), sorted_folder)


def parse_formats(text: str) -> tuple[TableFormat, ...]:
    """Reads `csv,jsonl,parquet`.

    Raises:
        UsageError: one of them is not known.
    """
    asked = [part.strip().lower() for part in text.split(",") if part.strip()]
    unknown = [name for name in asked if name not in TABLE_FORMATS]
    if unknown or not asked:
        raise UsageError(
            f"--format: expected some of {', '.join(TABLE_FORMATS)}, found '{', '.join(unknown) or text}'",
            code="unknown_option_value",
        )
    return tuple(name for name in TABLE_FORMATS if name in asked)


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

    sorter: FolderSorter
    every: FrameInterval
    frames: dict[Job, dict[int, tuple[str, ...]]] = field(default_factory=dict)

    def add(self, job: Job, record: JournalEntry, labels: tuple[str, ...]) -> None:
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
    classifier: Classifier, pictures: FoundPictures, outputs: Outputs, every: FrameInterval
) -> SessionSummary:
    """Decides by the thresholds and writes everything that was asked for.

    Raises:
        FileError: something cannot be written.
    """
    sorting = None
    if outputs.sorted_folder is not None:
        sorting = _Sorting(FolderSorter(outputs.sorted_folder), every)
    counts, shown = _write_tables(classifier, pictures, outputs, sorting)
    if sorting is not None:
        sorting.finish()
    if outputs.sheet is not None:
        about = SheetText(next(iter(outputs.tables.values())).name, outputs.thresholds, pictures.skipped)
        write_contact_sheet(outputs.sheet, classifier, shown, counts, about)
    summary = SessionSummary(counts, pictures.skipped, outputs.files)
    if sorting is None:
        return summary
    sorter = sorting.sorter
    return replace(summary, placed=sorter.placed, removed=sorter.removed, blocked=tuple(sorter.blocked))


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


def _results_of(job: Job, record: JournalEntry, classifier: Classifier) -> list[PersonResult]:
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
