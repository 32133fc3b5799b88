"""Loads a group into the bottle: listing, picsets' meta.json, pictures into the pool, dataset file."""

from __future__ import annotations

import enum
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from cls.bottle.dataset_file import GroupDataset, LabelledRow, write_dataset_if_changed
from cls.bottle.layout import Bottle
from cls.bottle.ledger import PictureEntry, PictureLedger
from cls.collector.client import PictureBusyError, PictureMissingError
from cls.collector.listing import Listing, SkippedPicture, picture_name
from cls.collector.payloads import Picset
from cls.errors import CollectorError, FileError
from cls.files import remove_parts, safe_name, sha256_of_bytes, write_bytes_atomic, write_text_atomic
from cls.progress import progress
from cls.records import Record, write_record
from cls.sources import Source
from cls.wording import counted

_log = logging.getLogger("cls.collector")

PICTURES_LEDGER = "pictures.jsonl"

# Bytes that are no picture may be a transfer gone wrong without a word: they are asked for once more.
_FETCHES_A_PICTURE = 2

# So many pictures refused with server errors, each after many attempts, is a collector that is down.
_MAX_BUSY_PICTURES = 20
META_FILE = "meta.json"
_WRITERS = 8
_LEDGER_KEY = "ledger"


def problem_of_picture(content: bytes) -> str | None:
    """Why bytes cannot be used as a picture; None when they can: what `cls.people.photos` reads, whole."""
    from cls.people.photos import check_photo

    try:
        check_photo(content)
    except FileError as error:
        return f"the file {error.what}"
    return None


class DownloadStatus(enum.Enum):
    """What became of a picture."""

    STORED = "stored"
    KEPT = "kept"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class DownloadResult:
    """What became of one address.

    Attributes:
        status: stored now, already there, or left out.
        reason: why it was left out; empty otherwise.
        is_busy: left out because the source answered with server errors.
    """

    filepath: str
    status: DownloadStatus
    reason: str = ""
    is_busy: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether the picture is in the pool."""
        return self.status is not DownloadStatus.SKIPPED


class PicturePool:
    """The bottle's pictures/, filled from a source.

    Opening it removes what a killed load left half written, so one load at a time works on a bottle: see `load_lock`.
    """

    def __init__(self, bottle: Bottle, source: Source) -> None:
        self._bottle = bottle
        self._source = source
        self._ledger = PictureLedger(bottle.ledger / PICTURES_LEDGER)
        remove_parts(bottle.pictures)

    def fetch(self, filepaths: Iterable[str], *, workers: int) -> dict[str, DownloadResult]:
        """Brings pictures into the pool, several at a time; those that are there and whole are not fetched again.

        Raises:
            CollectorError: the source cannot be used any more; what was stored stays, the same call goes on from there.
            FileError: the pool cannot be written.
        """
        by_name: dict[str, list[str]] = {}
        for filepath in sorted(set(filepaths)):
            by_name.setdefault(picture_name(filepath), []).append(filepath)
        results: dict[str, DownloadResult] = {}
        executor = ThreadPoolExecutor(workers, thread_name_prefix="picture")
        try:
            futures: list[Future[list[DownloadResult]]] = [
                executor.submit(self._fetch_name, name, paths) for name, paths in by_name.items()
            ]
            with progress("pictures", len(futures)) as ticker:
                busy: list[DownloadResult] = []
                for future in as_completed(futures):
                    results.update((result.filepath, result) for result in future.result())
                    ticker.advance()
                    busy += [result for result in future.result() if result.is_busy]
                    self._give_up_if_down(busy)
        finally:
            # After an error or Ctrl-C nothing further is begun; what is under way ends well.
            executor.shutdown(cancel_futures=True)
        return results

    def _give_up_if_down(self, busy: Sequence[DownloadResult]) -> None:
        if len(busy) >= _MAX_BUSY_PICTURES:
            raise CollectorError(
                f"answered with server errors for {counted(len(busy), 'picture')}, e.g. {busy[0].filepath}:"
                f" {busy[0].reason}",
                code="too_many_server_errors",
                where=self._source.description,
                hint="the collector is ill: run the same command later, it goes on from where it stopped",
            )

    def _fetch_name(self, name: str, filepaths: Sequence[str]) -> list[DownloadResult]:
        """Brings in all addresses that end in one file name, one after the other: they share one file."""
        entry = self._whole_entry(name, filepaths[0])
        if entry is not None:
            # The address the pool's file came from has its name before others.
            filepaths = sorted(filepaths, key=lambda path: path not in entry.filepaths)
        return [self._fetch_one(name, filepath) for filepath in filepaths]

    def _whole_entry(self, name: str, filepath: str) -> PictureEntry | None:
        """The ledger's entry of a picture that is in the pool and whole; None when it must be fetched.

        A whole picture that the ledger does not know, from an older bottle or a killed load, is entered as having come
        from `filepath`.
        """
        file = self._bottle.picture(name)
        entry = self._ledger.entry(name)
        if entry is not None and entry.is_unchanged(file):
            return entry
        try:
            content = file.read_bytes()
        except OSError:
            return None
        problem = problem_of_picture(content)
        if problem:
            _log.warning("%s in the pool is fetched again: %s", name, problem)
            return None
        digest = sha256_of_bytes(content)
        is_same = entry is not None and entry.sha256 == digest
        self._ledger.enter(name, entry.filepaths[0] if entry is not None and is_same else filepath, digest, file)
        return self._ledger.entry(name)

    def _fetch_one(self, name: str, filepath: str) -> DownloadResult:
        file = self._bottle.picture(name)
        entry = self._ledger.entry(name)
        is_whole = entry is not None and entry.is_unchanged(file)
        if is_whole and entry is not None and filepath in entry.filepaths:
            return DownloadResult(filepath, DownloadStatus.KEPT)
        try:
            content, problem = self._read(filepath)
        except PictureMissingError as error:
            return DownloadResult(
                filepath, DownloadStatus.SKIPPED, error.what, is_busy=isinstance(error, PictureBusyError)
            )
        if problem:
            return DownloadResult(filepath, DownloadStatus.SKIPPED, problem)
        digest = sha256_of_bytes(content)
        if is_whole and entry is not None and entry.sha256 != digest:
            return DownloadResult(
                filepath,
                DownloadStatus.SKIPPED,
                f"another picture already has the file name {name}: {entry.filepaths[0]}",
            )
        if not is_whole:
            write_bytes_atomic(file, content)
        self._ledger.enter(name, filepath, digest, file)
        return DownloadResult(filepath, DownloadStatus.KEPT if is_whole else DownloadStatus.STORED)

    def _read(self, filepath: str) -> tuple[bytes, str | None]:
        """The bytes at an address, and why they are no picture, if so."""
        content, problem = b"", None
        for _ in range(_FETCHES_A_PICTURE):
            content = self._source.read(filepath)
            problem = problem_of_picture(content)
            if problem is None:
                break
        return content, problem


@dataclass(frozen=True)
class StoredPicsets:
    """What became of picsets.

    Attributes:
        guids: picsets that were told of, each once.
        written_count: files that are new or have changed.
    """

    guids: frozenset[str]
    written_count: int


def meta_file(bottle: Bottle, group: str, guid: str) -> Path:
    """The meta.json of a picset in a group."""
    return bottle.meta(group) / safe_name(guid) / META_FILE


def store_picsets(bottle: Bottle, group: str, picsets: Iterable[Picset]) -> StoredPicsets:
    """Writes each picset's PICSET as it came, unknown fields included; files that would not change are left alone.

    Raises:
        FileError: a file cannot be written.
    """
    # Making a small file durable is nearly all waiting, and several can wait at once.
    seen: dict[str, Future[bool]] = {}
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="picset") as executor:
        for picset in picsets:
            if picset.guid not in seen:
                seen[picset.guid] = executor.submit(store_picset, bottle, group, picset)
        written_count = sum(future.result() for future in seen.values())
    return StoredPicsets(frozenset(seen), written_count)


def store_picset(bottle: Bottle, group: str, picset: Picset) -> bool:
    """Writes one picset's meta.json; returns whether it is new or has changed."""
    file = meta_file(bottle, group, picset.guid)
    # Other steps keep files of their own in this folder and may be writing one.
    remove_parts(file.parent, META_FILE)
    text = json.dumps(picset.content, ensure_ascii=False, indent=2) + "\n"
    # Text that no file can hold (half a surrogate pair) is kept as JSON's own escapes.
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        text = json.dumps(picset.content, indent=2) + "\n"
    if file.exists() and file.read_bytes() == text.encode():
        return False
    write_text_atomic(file, text)
    return True


@dataclass(frozen=True)
class LoadedGroup:
    """What a load made.

    Attributes:
        dataset: the group's labelled photos.
        dataset_file: where it is kept.
        is_changed: whether that file was written; an equal one is left alone.
        skipped: pictures left out, with the reason.
        placeholder_count: entries without a picture.
        contradictory: addresses under trash and under a label at once.
        empty_labels: labels without a usable photo; they are no part of the dataset.
        unknown_picsets: picsets that are listed and that the source then knows nothing of.
    """

    dataset: GroupDataset
    dataset_file: Path
    is_changed: bool
    stored_count: int
    kept_count: int
    skipped: tuple[SkippedPicture, ...]
    placeholder_count: int
    contradictory: tuple[str, ...]
    empty_labels: tuple[str, ...]
    picset_count: int
    unknown_picsets: tuple[str, ...]
    report_file: Path

    def __repr__(self) -> str:
        """The dataset, and how many pictures were left out."""
        return f"LoadedGroup({self.dataset!r}, {counted(len(self.skipped), 'picture')} left out)"

    def _repr_html_(self) -> str:
        """The dataset in a notebook, and how many pictures were left out."""
        left_out = f"<p>{counted(len(self.skipped), 'picture')} left out: {escape(str(self.report_file))}</p>"
        return self.dataset._repr_html_() + (left_out if self.skipped else "")


@contextmanager
def load_lock(bottle: Bottle) -> Iterator[None]:
    """Lets one load at a time work on a bottle; a second one waits, and says so."""
    from filelock import FileLock, Timeout

    bottle.ledger.mkdir(parents=True, exist_ok=True)
    lock = FileLock(bottle.ledger / ".load.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.warning("another load is working on this bottle; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def load_group(source: Source, bottle: Bottle, group: str, *, workers: int) -> LoadedGroup:
    """Loads one group: nothing is lost or doubled when it is killed and run again.

    Raises:
        CollectorError: the source cannot be used, has no such group, or not one usable photo of it. An older dataset
            file of the group stays as it is.
        FileError: the bottle cannot be written.
    """
    listing = source.listing(group)
    if not listing.labels:
        raise CollectorError(
            f"group '{group}' has no category besides trash",
            code="no_labels",
            where=source.description,
            hint="a group needs at least one label; add one in the collector",
        )
    with load_lock(bottle):
        photos, picsets = counted(len(listing.pictures), "photo"), counted(len(listing.picsets), "picset")
        _log.info("group '%s': %s in %s listed", group, photos, picsets)
        stored_picsets = store_picsets(bottle, group, source.picsets(listing.picsets))
        results = PicturePool(bottle, source).fetch((picture.filepath for picture in listing.pictures), workers=workers)
        rows = _rows(listing, results)
        skipped = (*listing.skipped, *(SkippedPicture(o.filepath, o.reason) for o in _left_out(results)))
        if not any(labels for labels, _ in rows.values()):
            raise CollectorError(
                f"not one labelled photo of group '{group}' could be loaded ({len(skipped)} left out"
                + (f", e.g. {skipped[0].filepath}: {skipped[0].reason})" if skipped else ")"),
                code="no_usable_photos",
                where=source.description,
            )
        used = {label for labels, _ in rows.values() for label in labels}
        dataset = _dataset(listing, rows, tuple(label for label in listing.labels if label in used), source)
        file = bottle.dataset_file(group)
        remove_parts(file.parent, file.name)
        report_file = bottle.ledger / "load" / f"{safe_name(group)}.json"
        remove_parts(report_file.parent, report_file.name)
        loaded = LoadedGroup(
            dataset=dataset,
            dataset_file=file,
            is_changed=write_dataset_if_changed(file, dataset, ignoring=[_LEDGER_KEY]),
            stored_count=sum(result.status is DownloadStatus.STORED for result in results.values()),
            kept_count=sum(result.status is DownloadStatus.KEPT for result in results.values()),
            skipped=skipped,
            placeholder_count=listing.placeholder_count,
            contradictory=listing.contradictory,
            empty_labels=tuple(label for label in listing.labels if label not in used),
            picset_count=len(stored_picsets.guids & set(listing.picsets)),
            unknown_picsets=tuple(guid for guid in listing.picsets if guid not in stored_picsets.guids),
            report_file=report_file,
        )
        _write_report(loaded, source)
    return loaded


def _left_out(results: Mapping[str, DownloadResult]) -> list[DownloadResult]:
    return sorted((o for o in results.values() if not o.is_usable), key=lambda result: result.filepath)


def _rows(listing: Listing, results: Mapping[str, DownloadResult]) -> dict[str, tuple[set[str], str]]:
    """File name -> labels and picset of every usable photo; addresses of one file share a row."""
    rows: dict[str, tuple[set[str], str]] = {}
    for picture in listing.pictures:
        if results[picture.filepath].is_usable:
            labels, picset = rows.setdefault(picture.name, (set(), picture.picset))
            labels.update(picture.labels)
            rows[picture.name] = (labels, min(filter(None, (picset, picture.picset)), default=""))
    return rows


def _dataset(
    listing: Listing, rows: Mapping[str, tuple[set[str], str]], labels: tuple[str, ...], source: Source
) -> GroupDataset:
    """The dataset of the usable photos, in stable order."""
    return GroupDataset(
        group=listing.group,
        labels=labels,
        rows=tuple(
            LabelledRow(name, tuple(float(label in found) for label in labels), picset)
            for name, (found, picset) in sorted(rows.items())
        ),
        extra={_LEDGER_KEY: {"source": source.description, "loaded_at": _now()}},
    )


class LoadReport(Record):
    """ledger/load/<group>.json: what the last load of a group did; see `LoadedGroup`.

    Attributes:
        group: the group's name as annotators typed it.
        source: where photos and labels came from.
        loaded_at: ISO 8601, in UTC.
        pictures_stored: pictures fetched by this load.
        placeholders: entries without a picture.
        skipped: pictures left out, with the reason.
        contradictory: addresses under trash and under a label at once.
        empty_labels: labels without a usable photo.
        unknown_picsets: picsets that are listed and that the source then knows nothing of.
    """

    group: str
    source: str
    loaded_at: str
    photos: int
    pictures_stored: int
    pictures_kept: int
    picsets: int
    placeholders: int
    skipped: tuple[SkippedPicture, ...] = ()
    contradictory: tuple[str, ...] = ()
    empty_labels: tuple[str, ...] = ()
    unknown_picsets: tuple[str, ...] = ()


def _write_report(loaded: LoadedGroup, source: Source) -> None:
    report = LoadReport(
        group=loaded.dataset.group,
        source=source.description,
        loaded_at=_now(),
        photos=len(loaded.dataset.rows),
        pictures_stored=loaded.stored_count,
        pictures_kept=loaded.kept_count,
        picsets=loaded.picset_count,
        placeholders=loaded.placeholder_count,
        skipped=loaded.skipped,
        contradictory=loaded.contradictory,
        empty_labels=loaded.empty_labels,
        unknown_picsets=loaded.unknown_picsets,
    )
    write_record(loaded.report_file, report)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
