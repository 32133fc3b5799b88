"""Records -> rows that fit the table, and how a batch of them is written."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from cls.errors import DatabaseError
from cls.pictures import queries
from cls.pictures.records import PictureRecord, Status
from cls.pictures.segments import read_status, segments_of_people
from cls.pictures.tables import MODEL_VERSION_MAX_LENGTH, PATH_MAX_LENGTH, STATUS_MAX_LENGTH


def row_of(record: PictureRecord) -> dict[str, Any]:
    """A record as the table takes it: column -> value.

    Raises:
        DatabaseError: it does not fit.
    """
    _check_text("picture's name", record.path, PATH_MAX_LENGTH, record.path)
    _check_text("model version", record.model_version, MODEL_VERSION_MAX_LENGTH, record.path)
    _check_text("status", record.status, STATUS_MAX_LENGTH, record.path)
    try:
        segments = segments_of_people(record.people)
    except ValueError as error:
        raise DatabaseError(
            f"cannot be stored: {error}", where=record.path, hint="the segmentation model answers nonsense: check it"
        ) from error
    return {
        "path": record.path,
        "model_version": record.model_version,
        "status": record.status,
        "segments": segments,
    }


def _check_text(name: str, value: str, limit: int, where: str) -> None:
    """Checks one column's text.

    Raises:
        DatabaseError: it is too long, or holds what no database stores.
    """
    if len(value) > limit:
        raise DatabaseError(
            f"the {name} '{value[:60]}…' has {len(value)} signs, the table takes {limit}",
            where=None if value == where else where,
            hint="give the file a shorter name",
        )
    if not is_storable(value):
        raise DatabaseError(
            f"the {name} {value!r} holds signs that a database cannot store", hint="give the file another name"
        )


def is_storable(text: str) -> bool:
    """Whether a database can hold the text: no NUL, nothing that is not Unicode."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def write_batch(connection: Connection, *, rows: list[dict[str, Any]], replace: bool, overrule: bool) -> int:
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
