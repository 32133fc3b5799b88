"""The pictures database: who is in which photo, and what a reviewer said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as with_changes
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import psycopg
import stamina
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError
from stamina.instrumentation import set_on_retry_hooks

from cls.errors import DatabaseError
from cls.pictures import queries
from cls.pictures.engine import WRITES, expected_failures, make_engine, make_sqlite_folder, parse_url, shown
from cls.pictures.records import PictureRecord, Status
from cls.pictures.schema import ensure_schema
from cls.pictures.segments import read_segments, read_status, segments_of_people
from cls.pictures.tables import MODEL_VERSION_MAX_LENGTH, PATH_MAX_LENGTH, STATUS_MAX_LENGTH

__all__ = ["PictureRecord", "PicturesDatabase", "Rejection", "Status"]

_BATCH = 1_000
_N_PROBLEMS_SHOWN = 5
_ATTEMPTS = 10
_RETRY_S = 60.0
_CONFLICTS = 2
# Deadlock, serialization failure, a server shutting down or starting up: the same transaction can succeed later.
_PASSING_STATES = {"40P01", "40001", "57P01", "57P02", "57P03"}

_log = logging.getLogger("cls.pictures")
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
    """The table `pictures` of spec section 4, on PostgreSQL 14+ or in an SQLite file; made by `open`.

    Which row counts where a path stands several times: people and model version come from the newest row (highest id)
    whose `segments` can be read, one that is NULL only where no other has any; the status from the newest row with a
    known one. But a picture that any of its rows calls rejected is rejected.

    Attributes:
        problems: what could not be read so far, one line a row; rows are never rewritten for it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
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
        set_on_retry_hooks([])  # stamina's own log lines; ours say which service it is
        parsed = parse_url(url)
        make_sqlite_folder(parsed)
        engine = make_engine(parsed)
        try:
            ensure_schema(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def __enter__(self) -> PicturesDatabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PicturesDatabase({shown(self._engine.url)})"

    def count(self) -> int:
        """How many pictures have a row."""
        return self._read(queries.count_paths)

    def known_paths(self, paths: Iterable[str]) -> set[str]:
        """Which of the paths have a row."""
        asked = [path for path in dict.fromkeys(paths) if _is_storable(path)]
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
        asked = [path for path in dict.fromkeys(paths) if _is_storable(path)]
        return self._read(lambda connection: self._collect(queries.rows_of(connection, asked)))

    def write_people(self, records: Sequence[PictureRecord], *, replace: bool, overrule_status: bool = False) -> int:
        """Writes who was found in pictures, in transactions of 1,000; safe to repeat and to run from several processes.

        Args:
            records: what to write; the last one counts where a path stands twice.
            replace: False skips pictures that have a row. True rewrites the newest row of such a picture in place;
                a status somebody decided (any but `unchecked`) stays as it is.
            overrule_status: with `replace`, writes the records' status also over a decided one, except over `rejected`.

        Returns:
            How many rows were written.

        Raises:
            DatabaseError: a record does not fit the table, or the database cannot be used.
        """
        rows = list({record.path: self._row_of(record) for record in records}.values())
        n_written = 0
        for start in range(0, len(rows), _BATCH):
            batch = partial(_write_batch, rows=rows[start : start + _BATCH], replace=replace, overrule=overrule_status)
            n_written += self._write(batch)
        return n_written

    def set_status(self, paths: Iterable[str], status: str) -> int:
        """Sets the status of pictures, in every row they have.

        Args:
            paths: file names; those without a row are left alone.
            status: one of `Status`.

        Returns:
            How many pictures had another status before.

        Raises:
            DatabaseError: there is no such status, or the database cannot be used.
        """
        if status not in Status.ALL:
            raise DatabaseError(f"there is no status '{status}'", hint=f"use one of {', '.join(Status.ALL)}")
        asked = [path for path in dict.fromkeys(paths) if _is_storable(path)]

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
        added = {path: self._row_of(PictureRecord(path, "", Status.REJECTED, None)) for path in asked}

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

    def _collect(self, rows: Iterable[queries.StoredRow]) -> dict[str, PictureRecord]:
        """Rows, oldest first -> one record a path; reports what could not be read."""
        records: dict[str, PictureRecord] = {}
        known_statuses: dict[str, str] = {}
        rejected: set[str] = set()
        reports: list[str] = []
        for row in rows:
            problems: list[str] = []
            segments = read_segments(row.segments, problems)
            status = read_status(row.status, problems)
            if status not in Status.ALL and segments.status is not None:
                status = segments.status
            if status in Status.ALL:
                known_statuses[row.path] = status
            if Status.REJECTED in (status, segments.status):
                rejected.add(row.path)
            older = records.get(row.path)
            if segments.is_readable and (segments.people is not None or older is None or older.people is None):
                records[row.path] = PictureRecord(row.path, row.model_version, status, segments.people)
            if problems:
                reports.append(f"row {row.id} ({row.path}): {'; '.join(problems)}")
        for path in rejected:
            known_statuses[path] = Status.REJECTED
            records.setdefault(path, PictureRecord(path, "", Status.REJECTED, None))
        self._report(reports)
        return {
            path: with_changes(record, status=known_statuses.get(path, record.status))
            for path, record in records.items()
        }

    def _report(self, reports: list[str]) -> None:
        """Remembers and logs what was not said before."""
        new = [report for report in reports if report not in self._problem_set]
        self._problem_set.update(new)
        self.problems.extend(new)
        if new:
            more = f"; and {len(new) - _N_PROBLEMS_SHOWN} more" if len(new) > _N_PROBLEMS_SHOWN else ""
            shown_reports = " | ".join(new[:_N_PROBLEMS_SHOWN])
            _log.warning("pictures database: %d rows are not whole: %s%s", len(new), shown_reports, more)

    def _row_of(self, record: PictureRecord) -> dict[str, Any]:
        """A record as the table takes it.

        Raises:
            DatabaseError: it does not fit.
        """
        self._check_length("picture's name", record.path, PATH_MAX_LENGTH, record.path)
        self._check_length("model version", record.model_version, MODEL_VERSION_MAX_LENGTH, record.path)
        self._check_length("status", record.status, STATUS_MAX_LENGTH, record.path)
        try:
            segments = segments_of_people(record.people)
        except ValueError as error:
            raise DatabaseError(f"cannot be stored: {error}", where=record.path) from error
        return {
            "path": record.path,
            "model_version": record.model_version,
            "status": record.status,
            "segments": segments,
        }

    def _check_length(self, name: str, value: str, limit: int, where: str) -> None:
        if len(value) > limit:
            raise DatabaseError(
                f"the {name} '{value[:60]}…' has {len(value)} signs, the table takes {limit}",
                where=None if value == where else where,
                hint="give the file a shorter name",
            )
        if not _is_storable(value):
            raise DatabaseError(
                f"the {name} {value!r} holds signs that a database cannot store", hint="give the file another name"
            )

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        return self._run(work, is_writing=False)

    def _write(self, work: Callable[[Connection], Result]) -> Result:
        return self._run(work, is_writing=True)

    def _run(self, work: Callable[[Connection], Result], *, is_writing: bool) -> Result:
        """Runs one transaction, and again when the connection broke or somebody was faster; all work here can."""
        judge = _Patience()
        with expected_failures(self._engine.url):
            for attempt in stamina.retry_context(on=judge, attempts=_ATTEMPTS, timeout=_RETRY_S, wait_initial=0.2):
                with attempt, self._transaction(is_writing=is_writing) as connection:
                    return work(connection)
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextmanager
    def _transaction(self, *, is_writing: bool) -> Iterator[Connection]:
        with self._engine.connect().execution_options(**{WRITES: is_writing}) as connection, connection.begin():
            yield connection


def _write_batch(connection: Connection, *, rows: list[dict[str, Any]], replace: bool, overrule: bool) -> int:
    """One transaction's rows; see `PicturesDatabase.write_people`."""
    queries.lock_for_writing(connection)
    paths = [row["path"] for row in rows]
    if not replace:
        known = queries.known_paths(connection, paths)
        new = [row for row in rows if row["path"] not in known]
        queries.insert_rows(connection, new)
        return len(new)
    newest = queries.newest_rows(connection, paths)
    changed = []
    for row in rows:
        if row["path"] in newest:
            row_id, status = newest[row["path"]]
            kept = _is_kept(status, overrule=overrule)
            changed.append(
                {
                    "row_id": row_id,
                    "model_version": row["model_version"],
                    "status": status if kept else row["status"],
                    "segments": row["segments"],
                }
            )
    queries.update_rows(connection, changed)
    queries.insert_rows(connection, [row for row in rows if row["path"] not in newest])
    return len(rows)


def _is_kept(stored_status: str, *, overrule: bool) -> bool:
    """Whether a stored status outlives a new segmentation."""
    status = read_status(stored_status, [])
    return status == Status.REJECTED if overrule else status != Status.UNCHECKED


class _Patience:
    """Judges whether the same transaction may succeed at the next try."""

    def __init__(self) -> None:
        self._n_conflicts = 0

    def __call__(self, error: Exception) -> bool:
        if isinstance(error, IntegrityError):
            # Another tool added the same path since we looked, where a site has made paths unique: seen at the next
            # look. What is in the way for longer is no coincidence.
            self._n_conflicts += 1
            return self._n_conflicts <= _CONFLICTS
        if not isinstance(error, DBAPIError):
            return False
        state = getattr(error.orig, "sqlstate", None)
        # psycopg gives no state where the server could not be reached: it worked at `open`, so it may be restarting.
        is_unreachable = isinstance(error.orig, psycopg.OperationalError) and state is None
        can_heal = error.connection_invalidated or is_unreachable or state in _PASSING_STATES
        if can_heal:
            _log.info("the pictures database did not answer (%s): trying again", str(error.orig).splitlines()[0])
        return can_heal


def _is_storable(text: str) -> bool:
    """Whether a database can hold the text: no NUL, nothing that is not Unicode."""
    return "\0" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)
