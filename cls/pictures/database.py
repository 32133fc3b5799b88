"""The pictures database: the people in each photo, and their review status."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import stamina
from sqlalchemy import URL, Connection, Engine
from stamina.instrumentation import set_on_retry_hooks

from cls.errors import DatabaseError, FileError
from cls.pictures import queries
from cls.pictures.engine import (
    ATTEMPTS,
    TIMEOUT_S,
    WAIT_INITIAL_S,
    WRITES,
    TransactionRetry,
    empty_free_space,
    ensure_schema,
    expected_failures,
    is_absent,
    make_empty_engine,
    make_engine,
    make_sqlite_folder,
    parse_url,
    redacted_url,
)
from cls.pictures.segments import PictureRecord, Status
from cls.pictures.storing import PictureUpdate, is_storable, merge_rows, row_of, write_batch
from cls.wording import counted

_log = logging.getLogger("cls.pictures")

_SEPARATORS = re.compile(r"[/\\]")

_BATCH = 1_000
_N_PROBLEMS_SHOWN = 5


def read_badlist(path: Path) -> list[str]:
    """Reads the picture names of a badlist; returns names in the file's order, each once.

    Lines may end in any way; blank ones are passed over, so are white space and quotes around a name and folders before
    it (`d/9/e/guid/p/abc.jpeg` names `abc.jpeg`: a picture is known by the last part of its path). UTF-8, with or
    without a byte order mark, or UTF-16 with one, as Windows' editor saves it.

    Raises:
        FileError: the file is missing, cannot be read, is no text, or names nothing.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileError("there is no such file", code="not_found", where=path) from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", code="unreadable", where=path) from error
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError(
            "is not UTF-8 text", code="not_utf8", where=f"{path}:{line}", hint="save it as UTF-8, a name a line"
        ) from error
    if "\0" in text:
        raise FileError(
            "is not a text file", code="not_text", where=path, hint="give a text file with one picture name a line"
        )
    names = [picture_named(line) for line in re.split(r"\r\n|\r|\n", text)]
    unique = list(dict.fromkeys(name for name in names if name))
    if not unique:
        raise FileError("names no picture", code="no_names", where=path, hint="write one picture name a line")
    return unique


def picture_named(text: str) -> str:
    """The picture a line or a word names; empty for a blank one."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return _SEPARATORS.split(text)[-1].strip()


__all__ = ["PictureRecord", "PicturesDatabase", "Rejection", "Status"]


Result = TypeVar("Result")


@dataclass(frozen=True)
class Rejection:
    """What rejecting a list of pictures did.

    Attributes:
        rejected: pictures that had a row, with another status.
        already: pictures that were rejected before.
        unknown: pictures without a row; each was given one that says rejected.
    """

    rejected: tuple[str, ...]
    already: tuple[str, ...]
    unknown: tuple[str, ...]


class PicturesDatabase:
    """The shared table `pictures`, on PostgreSQL 14+ or in an SQLite file.

    Made by `open`, and by `open_for_reading` where nothing will be written. Which row counts where a path stands
    several times: see `cls.pictures.storing`.

    Attributes:
        problems: what could not be read so far, one line a row; rows are never rewritten for it.
    """

    def __init__(self, engine: Engine, *, is_read_only: bool = False) -> None:
        self._engine = engine
        self._is_read_only = is_read_only
        self.problems: list[str] = []
        self._problem_set: set[str] = set()

    @classmethod
    def open(cls, url: str) -> PicturesDatabase:
        """Opens the database at a URL; creates the table, or adopts and migrates the one that is there.

        Args:
            url: `postgresql://…` (any driver part), or `sqlite:///FILE`.

        Raises:
            DatabaseError: the URL is none, or the database cannot be reached or used.
        """
        return cls(_ready_engine(parse_url(url)))

    @classmethod
    def open_for_reading(cls, url: str) -> PicturesDatabase:
        """Opens the database at a URL to read it; an SQLite file that does not exist is read as empty and not made.

        A command that is refused because nothing was segmented yet leaves the bottle as it was.

        Args:
            url: as of `open`; a database that exists is opened as `open` does.

        Raises:
            DatabaseError: the URL is none, or the database cannot be reached or used. Writing raises it too.
        """
        parsed = parse_url(url)
        engine = make_empty_engine() if is_absent(parsed) else _ready_engine(parsed)
        return cls(engine, is_read_only=True)

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def __enter__(self) -> PicturesDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PicturesDatabase({redacted_url(self._engine.url)})"

    def count(self) -> int:
        """How many pictures have a row."""
        return self._read(queries.count_paths)

    def known_paths(self, paths: Iterable[str]) -> set[str]:
        """Which of the paths have a row."""
        asked = [path for path in dict.fromkeys(paths) if is_storable(path)]
        return self._read(lambda connection: queries.known_paths(connection, asked))

    def records(self, paths: Iterable[str] | None = None) -> dict[str, PictureRecord]:
        """What is known of some pictures, or of all.

        Args:
            paths: file names; all rows when None.

        Returns:
            One record a path. Paths without a row, or with unreadable rows only, are left out; the latter are added to
            `problems` and logged.
        """
        if paths is None:
            return self._read(lambda connection: self._collect(queries.all_rows(connection)))
        asked = [path for path in dict.fromkeys(paths) if is_storable(path)]
        return self._read(lambda connection: self._collect(queries.rows_of(connection, asked)))

    def write_people(self, records: Sequence[PictureRecord], *, replace: bool, overrule_status: bool = False) -> int:
        """Writes who was found in pictures, in transactions of 1,000; safe to repeat and to run from several processes.

        Everybody gets an id. With `replace`, who was in the picture before keeps theirs (`cls.people.polygons`), and
        whatever other tools wrote of that person stays.

        Args:
            records: what to write; the last one counts where a path stands twice. An id that a person has is kept.
            replace: False skips pictures that have a row. True rewrites the newest row of such a picture in place;
                a status somebody decided (any but `unchecked`) stays as it is.
            overrule_status: with `replace`, writes the records' status also over a decided one, except over `rejected`.

        Returns:
            How many rows were written.

        Raises:
            DatabaseError: a record does not fit the table, or the database cannot be used.
        """
        drafts = list({record.path: PictureUpdate(record, row_of(record)) for record in records}.values())
        n_written = 0
        for start in range(0, len(drafts), _BATCH):
            part = drafts[start : start + _BATCH]
            n_written += self._write(partial(write_batch, drafts=part, replace=replace, overrule=overrule_status))
        return n_written

    def set_status(self, paths: Iterable[str], status: str) -> int:
        """Sets the status of pictures, in every row they have; returns how many pictures had another status before.

        Args:
            paths: file names; those without a row are left alone.
            status: one of `Status`.

        Raises:
            DatabaseError: there is no such status, or the database cannot be used.
        """
        if status not in Status.ALL:
            raise DatabaseError(
                f"there is no status '{status}'", code="unknown_status", hint=f"use one of {', '.join(Status.ALL)}"
            )
        asked = [path for path in dict.fromkeys(paths) if is_storable(path)]

        def change(connection: Connection) -> int:
            queries.lock_for_writing(connection)
            changed = {path for path, found in queries.statuses(connection, asked) if found != status}
            queries.update_status(connection, sorted(changed), status)
            return len(changed)

        return self._write(change)

    def reject(self, paths: Iterable[str]) -> Rejection:
        """Rejects pictures, also those that have no row yet: none of them is ever trained on.

        A picture without a row is given one with an empty model version and no segments, so that the segmentation
        passes it over and a later `set_status` can take the rejection back.

        Raises:
            DatabaseError: a name does not fit the table, or the database cannot be used.
        """
        asked = list(dict.fromkeys(paths))
        added = {path: row_of(PictureRecord(path, "", Status.REJECTED, None)) for path in asked}

        def change(connection: Connection) -> Rejection:
            queries.lock_for_writing(connection)
            found = queries.statuses(connection, asked)
            known = {path for path, _ in found}
            changed = {path for path, status in found if status != Status.REJECTED}
            unknown = [path for path in asked if path not in known]
            queries.update_status(connection, sorted(changed), Status.REJECTED)
            queries.insert_rows(connection, [added[path] for path in unknown])
            return Rejection(
                tuple(path for path in asked if path in changed),
                tuple(path for path in asked if path in known - changed),
                tuple(unknown),
            )

        return self._write(change)

    def forget(self, paths: Iterable[str]) -> int:
        """Removes every row of pictures; in an SQLite file nothing of them is left in its free space either.

        PostgreSQL overwrites what is left on its disk when it vacuums the table, which it does by itself.

        Returns:
            How many rows there were.

        Raises:
            DatabaseError: the rights do not suffice, or the database cannot be used.
        """
        asked = [path for path in dict.fromkeys(paths) if is_storable(path)]

        def change(connection: Connection) -> int:
            queries.lock_for_writing(connection)
            # Who has no right to remove rows needs none where there are none.
            known = queries.known_paths(connection, asked)
            return queries.delete_rows(connection, sorted(known)) if known else 0

        count = self._write(change)
        with expected_failures(self._engine.url):
            if not empty_free_space(self._engine):
                _log.warning("the pictures database is being read: run again later, so that its journal is emptied too")
        return count

    def _collect(self, rows: Iterable[queries.StoredRow]) -> dict[str, PictureRecord]:
        records, reports = merge_rows(rows)
        self._report(reports)
        return records

    def _report(self, reports: list[str]) -> None:
        """Remembers and logs what was not said before."""
        new = [report for report in reports if report not in self._problem_set]
        self._problem_set.update(new)
        self.problems.extend(new)
        if new:
            more = f"; and {len(new) - _N_PROBLEMS_SHOWN} more" if len(new) > _N_PROBLEMS_SHOWN else ""
            shown_reports = " | ".join(new[:_N_PROBLEMS_SHOWN])
            _log.warning("pictures database: %s not whole: %s%s", counted(len(new), "row"), shown_reports, more)

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        return self._run(work, is_writing=False)

    def _write(self, work: Callable[[Connection], Result]) -> Result:
        if self._is_read_only:
            raise DatabaseError(
                "the pictures database was opened for reading",
                code="opened_read_only",
                where=redacted_url(self._engine.url),
            )
        return self._run(work, is_writing=True)

    def _run(self, work: Callable[[Connection], Result], *, is_writing: bool) -> Result:
        """Runs one transaction, and again when the connection broke or somebody was faster; all work here can."""
        judge = TransactionRetry()
        with expected_failures(self._engine.url):
            for attempt in stamina.retry_context(
                on=judge, attempts=ATTEMPTS, timeout=TIMEOUT_S, wait_initial=WAIT_INITIAL_S
            ):
                with attempt, self._transaction(is_writing=is_writing) as connection:
                    return work(connection)
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextmanager
    def _transaction(self, *, is_writing: bool) -> Iterator[Connection]:
        with self._engine.connect().execution_options(**{WRITES: is_writing}) as connection, connection.begin():
            yield connection


def _ready_engine(url: URL) -> Engine:
    """An engine to a database whose table is there and up to date."""
    set_on_retry_hooks([])  # stamina's own log lines; ours say which service it is
    make_sqlite_folder(url)
    engine = make_engine(url)
    try:
        ensure_schema(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine
