"""Pictures from a source into the pool: whole, once, and never one over another."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from cls.bottle.layout import Bottle
from cls.bottle.ledger import PictureEntry, PictureLedger
from cls.collector.listing import picture_name
from cls.collector.retrying import PictureBusyError, PictureMissingError
from cls.errors import CollectorError, FileError
from cls.files import remove_parts, sha256_of_bytes, write_bytes_atomic
from cls.progress import progress
from cls.sources import Source
from cls.wording import counted


def problem_of_picture(content: bytes) -> str | None:
    """Why bytes cannot be used as a picture; None when they can: what `cls.people.photos` reads, whole."""
    from cls.people.photos import check_photo

    try:
        check_photo(content)
    except FileError as error:
        return f"the file {error.what}"
    return None


PICTURES_LEDGER = "pictures.jsonl"
# Bytes that are no picture may be a transfer gone wrong without a word: they are asked for once more.
_FETCHES_A_PICTURE = 2
# So many pictures refused with server errors, each after many attempts, is a collector that is down.
_MAX_BUSY_PICTURES = 20
_LOGGER = logging.getLogger("cls.collector")


class DownloadStatus(enum.Enum):
    """What became of a picture."""

    STORED = "stored"
    KEPT = "kept"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class DownloadResult:
    """What became of one address.

    Attributes:
        filepath: the address.
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
            _LOGGER.warning("%s in the pool is fetched again: %s", name, problem)
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
