"""What an inference has found so far, on disk: killed at any moment and run again, it goes on from there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from cls.errors import PredictionError
from cls.files import sha256_of_bytes, sha256_of_file, write_error
from cls.runtimes.classifier import Classifier

_VERSION = 1
_LOCK_ATTEMPTS = 50
_FINISHED = b'{"finished": true}\n'


class FoundPerson(NamedTuple):
    """One person, as the journal keeps it: decisions are made from this when tables are written.

    Attributes:
        person_class: e.g. `female`.
        conf: confidence that it is a person, 0 to 1.
        box_xyxy_px: left, top, right, bottom.
        probs: in the labels' order.
    """

    person_class: str
    conf: float
    box_xyxy_px: tuple[float, float, float, float]
    probs: tuple[float, ...]


@dataclass(frozen=True)
class JournalEntry:
    """One picture.

    Attributes:
        key: the picture in its state; see `cls.prediction.session`.
        cards: cut-outs of the first people for the contact sheet, JPEG as base64; none when there are enough.
        time_s: when in the video.
        skipped: why the picture could not be used; of a video, why it ended early.
        frames: at the end of a video: how many of its frames were looked at.
    """

    key: str
    people: tuple[FoundPerson, ...] = ()
    cards: tuple[str, ...] = ()
    frame: int | None = None
    time_s: float | None = None
    skipped: str | None = None
    frames: int | None = None

    def line(self) -> bytes:
        """As a line of the journal, without what is empty."""
        content = {name: value for name, value in vars(self).items() if value not in (None, ())}
        return json.dumps(content, ensure_ascii=False, default=float).encode() + b"\n"


_ENTRY = TypeAdapter(JournalEntry)


class PredictionJournal:
    """A file of one line a picture, appended to. Made by `open_journal`.

    Memory holds where each picture's line is, and nothing of what it says.

    Attributes:
        card_count: cut-outs kept for the contact sheet.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        self.card_count = 0
        header = json.dumps({"version": _VERSION, "identity": identity}).encode() + b"\n"
        if not path.exists() or not self._load(header):
            path.write_bytes(header)
        self._writer = path.open("ab")
        self._reader = path.open("rb")

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def read(self, key: str) -> JournalEntry:
        """What was found in a picture that is in the journal."""
        self._reader.seek(self._places[key])
        return _ENTRY.validate_json(self._reader.readline())

    def add(self, records: Iterable[JournalEntry]) -> None:
        """Keeps pictures; those that are in it already stay as they are."""
        text = b""
        place = self._writer.tell()
        for record in records:
            if record.key not in self._places:
                line = record.line()
                self._places[record.key] = place + len(text)
                self.card_count += len(record.cards)
                text += line
        self._writer.write(text)
        self._writer.flush()

    def finish(self) -> None:
        """Everything was looked at: pictures that could not be used get another chance the next time."""
        self._writer.write(_FINISHED)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()
        self._reader.close()

    def _load(self, header: bytes) -> bool:
        """Finds the pictures in the file and cuts off a half written line; whether it is of the same inference."""
        skipped: set[str] = set()
        with self._path.open("r+b") as stream:
            if stream.readline() != header:
                return False
            place = stream.tell()
            for line in stream:
                if not line.endswith(b"\n"):
                    stream.truncate(place)
                    break
                if line == _FINISHED:
                    for key in skipped:
                        del self._places[key]
                    skipped.clear()
                else:
                    self._enter(line, place, skipped)
                place += len(line)
        return True

    def _enter(self, line: bytes, place: int, skipped: set[str]) -> None:
        try:
            record = _ENTRY.validate_json(line)
        except ValidationError:
            return  # damaged: that picture is looked at again
        self._places[record.key] = place
        self.card_count += len(record.cards)
        if record.skipped is not None:
            skipped.add(record.key)


@dataclass(frozen=True)
class Job:
    """One photo or one video.

    Attributes:
        key: changes with the file, and with the people who are known to be in it.
        ids: of the people in it, where the pictures database knows them; None elsewhere.
    """

    file: Path
    name: str
    key: str
    ids: tuple[str, ...] | None = None

    def frame_key(self, place: int) -> str:
        """The key of a video's frame: its position among those looked at, from 0."""
        return f"{self.key}#{place}"


class FoundPictures:
    """The pictures of an inference, all of which are in the journal, one at a time and as often as wanted.

    Attributes:
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
                yield video, self._journal.read(video.frame_key(place))
            if end.skipped is not None:
                yield video, end


def lock_of(journal: Path) -> Path:
    """The lock of a journal; it is there only during an inference."""
    return journal.with_name(f"{journal.name}.lock")


def journal_of(lock: Path) -> Path | None:
    """The journal whose lock a file is; None for another lock."""
    name = lock.name.removesuffix(".lock")
    return lock.with_name(name) if name.startswith(".") and name.endswith(".journal") else None


@contextmanager
def lock_output(journal: Path) -> Iterator[None]:
    """Alone with an output; the lock goes afterwards, and so does the folder where nothing is in it.

    Raises:
        filelock.Timeout: another process predicts into it, or removes pictures of it.
        OSError: the folder cannot be written.
    """
    lock_path = lock_of(journal)
    lock = _acquired(lock_path)
    try:
        yield
    finally:
        # Removed while it is held: a process that opened it earlier sees that it has no name any more, and tries again.
        # Windows does not remove an open file; there, its release does.
        with suppress(OSError):
            lock_path.unlink()
        lock.release()
        if not journal.exists():  # nothing was found: nothing is left behind
            with suppress(OSError):
                journal.parent.rmdir()


def _acquired(lock_path: Path) -> FileLock:
    """The lock, held. Whoever held it before removes it and its folder, perhaps while it is being opened here."""
    folder = lock_path.parent
    last: OSError | Timeout = Timeout(str(lock_path))
    for _ in range(_LOCK_ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(lock_path)
            lock.acquire(timeout=0)
        except Timeout as error:
            if lock_path.exists():
                raise
            last = error
        except (FileNotFoundError, FileExistsError) as error:
            if folder.is_file():  # else it went, or came again, in the meantime
                raise
            last = error
        else:
            return lock
    raise last


@contextmanager
def open_journal(path: Path, identity: str) -> Iterator[PredictionJournal]:
    """Opens the journal of an output; one of another model or of other options is begun again.

    Raises:
        PredictionError: another process predicts into the same output.
        FileError: the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_output(path))
        except Timeout:
            raise PredictionError(
                "another process is predicting into this output",
                code="output_in_use",
                where=path.parent,
                hint="wait, or give another --out",
            ) from None
        except OSError as error:
            raise write_error(path.parent, error, "give another --out") from error
        journal = PredictionJournal(path, identity)
        try:
            yield journal
        finally:
            journal.close()
            if not len(journal):
                path.unlink(missing_ok=True)


def identity_of(classifier: Classifier) -> str:
    """A digest of all that probabilities depend on, besides the pictures.

    Thresholds are not part of it: they are applied when the tables are written.
    """
    parts = [
        classifier.group,
        classifier.name,
        classifier.labels,
        classifier.preprocessing.to_dict(),
        classifier.runtime.description,
        _digest_of_model(classifier),
        [],  # as in journals of earlier versions
    ]
    return sha256_of_bytes(json.dumps(parts, ensure_ascii=False).encode())


def _digest_of_model(classifier: Classifier) -> str:
    path = Path(classifier.source)
    if path.is_file():
        weights = path.with_suffix(".bin")
        more = sha256_of_file(weights) if path.suffix == ".xml" and weights.is_file() else ""
        return sha256_of_file(path) + more
    if (path / "metrics.json").is_file():  # a run: it holds the digest of its weights
        return sha256_of_file(path / "metrics.json")
    meta = getattr(classifier.runtime, "meta", None)
    return classifier.source + (sha256_of_bytes(meta.to_json().encode()) if meta is not None else "")
