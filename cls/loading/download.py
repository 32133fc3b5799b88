"""Brings photos of a source into the bottle's pool, several at a time; whole ones that are there are kept."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from cls.bottle.layout import Bottle
from cls.bottle.ledger import PictureEntry, PictureLedger
from cls.collector.client import PictureBusyError, PictureMissingError
from cls.collector.listing import SkippedPicture, picture_name
from cls.errors import CollectorError, FileError
from cls.files import remove_parts, sha256_of_bytes, write_bytes_atomic
from cls.progress import progress
from cls.sources import Source
from cls.wording import counted

_log = logging.getLogger("cls.collector")

PICTURES_LEDGER = "pictures.jsonl"

# Bytes that are no picture may come from a transfer that failed unnoticed: the address is fetched once more.
_FETCHES_A_PICTURE = 2

# So many pictures refused with server errors, each after many attempts, is a collector that is down.
_MAX_BUSY_PICTURES = 20


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


@dataclass(frozen=True)
class Downloads:
    """What became of addresses.

    Attributes:
        statuses: address -> stored now, or already there.
        skipped: those that were left out, by address.
    """

    statuses: dict[str, DownloadStatus]
    skipped: tuple[SkippedPicture, ...]

    def count(self, status: DownloadStatus) -> int:
        """How many addresses have a status."""
        return sum(one is status for one in self.statuses.values())


class PicturePool:
    """The bottle's pictures/, filled from a source.

    Opening it removes what a killed load left half written, so one load at a time works on a bottle: see `load_lock`.
    """

    def __init__(self, bottle: Bottle, source: Source) -> None:
        self._bottle = bottle
        self._source = source
        self._ledger = PictureLedger(bottle.ledger / PICTURES_LEDGER)
        remove_parts(bottle.pictures)

    def fetch(self, filepaths: Iterable[str], *, workers: int) -> Downloads:
        """Brings pictures into the pool, several at a time; those that are there and whole are not fetched again.

        Raises:
            CollectorError: the source cannot be used any more; what was stored stays, the same call goes on from there.
            FileError: the pool cannot be written.
        """
        by_name: dict[str, list[str]] = {}
        for filepath in sorted(set(filepaths)):
            by_name.setdefault(picture_name(filepath), []).append(filepath)
        statuses: dict[str, DownloadStatus] = {}
        skipped: list[SkippedPicture] = []
        executor = ThreadPoolExecutor(workers, thread_name_prefix="picture")
        try:
            futures = [executor.submit(self._fetch_name, name, paths) for name, paths in by_name.items()]
            with progress("pictures", len(futures)) as ticker:
                for future in as_completed(futures):
                    for filepath, result in future.result().items():
                        if isinstance(result, SkippedPicture):
                            skipped.append(result)
                        else:
                            statuses[filepath] = result
                    ticker.advance()
                    self._give_up_if_down([picture for picture in skipped if picture.is_temporary])
        finally:
            # After an error or Ctrl-C nothing further is begun; what is under way ends well.
            executor.shutdown(cancel_futures=True)
        return Downloads(statuses, tuple(sorted(skipped, key=lambda picture: picture.filepath)))

    def _give_up_if_down(self, busy: Sequence[SkippedPicture]) -> None:
        if len(busy) >= _MAX_BUSY_PICTURES:
            raise CollectorError(
                f"answered with server errors for {counted(len(busy), 'picture')}, e.g. {busy[0].filepath}:"
                f" {busy[0].reason}",
                code="too_many_server_errors",
                where=self._source.description,
                hint="check the collector, then run the same command again: pictures that were stored are not fetched"
                " again",
            )

    def _fetch_name(self, name: str, filepaths: Sequence[str]) -> dict[str, DownloadStatus | SkippedPicture]:
        """Brings in all addresses that end in one file name, one after the other: they share one file."""
        entry = self._whole_entry(name, filepaths[0])
        if entry is not None:
            # The address the pool's file came from has its name before others.
            filepaths = sorted(filepaths, key=lambda path: path not in entry.filepaths)
        return {filepath: self._fetch_one(name, filepath) for filepath in filepaths}

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

    def _fetch_one(self, name: str, filepath: str) -> DownloadStatus | SkippedPicture:
        file = self._bottle.picture(name)
        entry = self._ledger.entry(name)
        is_whole = entry is not None and entry.is_unchanged(file)
        if is_whole and entry is not None and filepath in entry.filepaths:
            return DownloadStatus.KEPT
        try:
            content, problem = self._read(filepath)
        except PictureMissingError as error:
            return SkippedPicture(filepath, error.what, is_temporary=isinstance(error, PictureBusyError))
        if problem:
            return SkippedPicture(filepath, problem)
        digest = sha256_of_bytes(content)
        if is_whole and entry is not None and entry.sha256 != digest:
            return SkippedPicture(filepath, f"another picture already has the file name {name}: {entry.filepaths[0]}")
        if not is_whole:
            write_bytes_atomic(file, content)
        self._ledger.enter(name, filepath, digest, file)
        return DownloadStatus.KEPT if is_whole else DownloadStatus.STORED

    def _read(self, filepath: str) -> tuple[bytes, str | None]:
        """The bytes at an address, and why they are no picture, if so."""
        content, problem = b"", None
        for _ in range(_FETCHES_A_PICTURE):
            content = self._source.read(filepath)
            problem = problem_of_picture(content)
            if problem is None:
                break
        return content, problem
