"""Records -> rows that fit the table, and how a batch of them is written: who is found again keeps the id."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from cls.errors import DatabaseError, DatabaseFault
from cls.people.photos import Person
from cls.people.polygons import identified, same_people
from cls.pictures import queries
from cls.pictures.queries import (
    MODEL_VERSION_MAX_LENGTH,
    PATH_MAX_LENGTH,
    STATUS_MAX_LENGTH,
    ChangedRow,
    NewRow,
    StoredRow,
)
from cls.pictures.segments import PictureRecord, Segments, Status, read_segments, read_status, segments_of_people


def merge_rows(rows: Iterable[StoredRow]) -> tuple[dict[str, PictureRecord], list[str]]:
    """Merges rows to one record a path.

    People and model version come from the newest row (highest id) whose `segments` can be read, one that is NULL only
    where no other has any; the status from the newest row with a known one. A picture that any of its rows calls
    rejected is rejected: what a reviewer once took out is never trained on by accident.

    Args:
        rows: oldest first.

    Returns:
        Records by path (paths without a readable row are left out, unless rejected), and one line for every row that
        is not whole.
    """
    records: dict[str, PictureRecord] = {}
    known_statuses: dict[str, str] = {}
    rejected: set[str] = set()
    reports: list[str] = []
    for row in rows:
        problems: list[DatabaseFault] = []
        segments = read_segments(row.segments, problems, row.path)
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
    merged = {path: replace(record, status=known_statuses.get(path, record.status)) for path, record in records.items()}
    return merged, reports


def row_of(record: PictureRecord) -> NewRow:
    """A record as the table takes it; every person has an id there.

    Raises:
        DatabaseError: it does not fit.
    """
    _check_text("picture's name", record.path, PATH_MAX_LENGTH, record.path)
    _check_text("model version", record.model_version, MODEL_VERSION_MAX_LENGTH, record.path)
    _check_text("status", record.status, STATUS_MAX_LENGTH, record.path)
    people = None if record.people is None else identified(record.path, record.people)
    try:
        segments = segments_of_people(people)
    except ValueError as error:
        raise DatabaseError(
            f"cannot be stored: {error}",
            code="invalid_person",
            where=record.path,
            hint="the segmentation model answers nonsense: check it",
        ) from error
    return NewRow(record.path, record.model_version, record.status, segments)


def _check_text(name: str, value: str, limit: int, where: str) -> None:
    """Checks one column's text."""
    if len(value) > limit:
        raise DatabaseError(
            f"the {name} '{value[:60]}…' has {len(value)} signs, the table takes {limit}",
            code="too_long",
            where=None if value == where else where,
            hint="give the file a shorter name",
        )
    if not is_storable(value):
        raise DatabaseError(
            f"the {name} {value!r} holds signs that a database cannot store",
            code="unstorable_text",
            hint="give the file another name",
        )


def is_storable(text: str) -> bool:
    """Whether a database can hold the text: no NUL, nothing that is not Unicode."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True)
class PictureUpdate:
    """The changes to write for a picture."""

    record: PictureRecord
    row: NewRow


def write_batch(connection: Connection, *, drafts: Sequence[PictureUpdate], replace: bool, overrule: bool) -> int:
    """One transaction's rows; see `PicturesDatabase.write_people`."""
    queries.lock_for_writing(connection)
    paths = [draft.record.path for draft in drafts]
    if not replace:
        known = queries.known_paths(connection, paths)
        new = [draft.row for draft in drafts if draft.record.path not in known]
        queries.insert_rows(connection, new)
        return len(new)
    stored: dict[str, list[StoredRow]] = {}
    for row in queries.rows_of(connection, paths):
        stored.setdefault(row.path, []).append(row)
    changed = []
    for draft in drafts:
        if rows := stored.get(draft.record.path):
            newest = rows[-1]
            status = newest.status if _is_kept(newest.status, overrule=overrule) else draft.row.status
            changed.append(ChangedRow(newest.id, draft.row.model_version, status, _segments_again(draft, rows)))
    queries.update_rows(connection, changed)
    queries.insert_rows(connection, [draft.row for draft in drafts if draft.record.path not in stored])
    return len(drafts)


def _segments_again(draft: PictureUpdate, rows: Sequence[StoredRow]) -> Any:
    """The new `segments` of a picture: who was in it before keeps the id and what other tools wrote of that person."""
    if draft.row.segments is None:
        return None
    read = [read_segments(row.segments, [], row.path) for row in rows]
    known = next((one for one in reversed(read) if one.people is not None), Segments(()))
    people = _found_again(draft.record, (*(known.people or ()), *known.rejected))
    entries = zip(draft.row.segments.items(), people, strict=True)
    again = {key: {**entry, "id": one.id, **known.further.get(one.id, {})} for (key, entry), one in entries}
    return {**again, **read[-1].beside}


def _found_again(record: PictureRecord, before: Sequence[Person]) -> tuple[Person, ...]:
    """The people of a record with their ids; those without one get that of whom they are, or a new one."""
    people = list(record.people or ())
    given = {person.id for person in people}
    others = [person for person in before if person.id not in given]
    places = [place for place, person in enumerate(people) if not person.id]
    for place, old in same_people(others, [people[place] for place in places]).items():
        people[places[place]] = dataclasses.replace(people[places[place]], id=others[old].id)
    return identified(record.path, people, taken=[person.id for person in before])


def _is_kept(stored_status: str, *, overrule: bool) -> bool:
    """Whether a stored status outlives a new segmentation."""
    status = read_status(stored_status, [])
    return status == Status.REJECTED if overrule else status != Status.UNCHECKED
