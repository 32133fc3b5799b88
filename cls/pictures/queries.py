"""The tables, and every statement the pictures database is sent. Transactions are the caller's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    JSON,
    Cast,
    ColumnElement,
    Connection,
    Select,
    String,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from cls.pictures.segments import PersonObject

PATH_MAX_LENGTH = 255
MODEL_VERSION_MAX_LENGTH = 50
STATUS_MAX_LENGTH = 50

# One statement's worth of paths; a list is sent as one parameter, so this bounds memory, not the protocol.
CHUNK = 5_000
_WRITE_LOCK_KEY = 0x636C7377  # "clsw"


class Base(DeclarativeBase):
    """Base of the table classes."""


class PictureRow(Base):
    """One look of a segmentation model at a photo; older tools may have written several rows for one path."""

    __tablename__ = "pictures"

    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(String(PATH_MAX_LENGTH))
    model_version: Mapped[str] = mapped_column(String(MODEL_VERSION_MAX_LENGTH))
    status: Mapped[str] = mapped_column(String(STATUS_MAX_LENGTH))
    segments: Mapped[Any | None] = mapped_column(
        JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    )


COLUMNS = tuple(PictureRow.__table__.columns.keys())


class StoredRow(NamedTuple):
    """A row as it is stored, `segments` as JSON text."""

    id: int
    path: str
    model_version: str
    status: str
    segments: str | None


class NewRow(NamedTuple):
    """A row to be added; `segments` as `cls.pictures.segments.segments_of_people` gives them."""

    path: str
    model_version: str
    status: str
    segments: Mapping[str, PersonObject] | None


class ChangedRow(NamedTuple):
    """A row to be rewritten: its id, and the new values; in `segments` stands what other tools wrote, too."""

    row_id: int
    model_version: str
    status: str
    segments: Any


def count_paths(connection: Connection) -> int:
    """How many pictures have a row (a path that stands twice counts once)."""
    return connection.scalar(select(func.count(PictureRow.path.distinct()))) or 0


def known_paths(connection: Connection, paths: Sequence[str]) -> set[str]:
    """Which of the paths have a row."""
    known: set[str] = set()
    for chunk in _chunks(paths):
        known.update(connection.scalars(select(PictureRow.path).where(_is_one_of(connection, chunk))))
    return known


def rows_of(connection: Connection, paths: Sequence[str]) -> Iterator[StoredRow]:
    """The rows of some paths; those of one path come one after another as far as order of id goes: oldest first."""
    for chunk in _chunks(paths):
        rows = connection.execute(_select_stored().where(_is_one_of(connection, chunk)))
        yield from (StoredRow(*row) for row in rows)


def all_rows(connection: Connection) -> Iterator[StoredRow]:
    """Every row, oldest first, a chunk at a time."""
    last_id: int | None = None
    while True:
        statement = _select_stored().limit(CHUNK)
        if last_id is not None:
            statement = statement.where(PictureRow.id > last_id)
        rows = [StoredRow(*row) for row in connection.execute(statement)]
        if not rows:
            return
        yield from rows
        last_id = rows[-1].id


def lock_for_writing(connection: Connection) -> None:
    """Makes other CLS writers wait until this transaction ends, so that none adds a path between a look and an insert.

    Readers and other tools are not held up. On SQLite the transaction itself holds the write lock already.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK_KEY})


def insert_rows(connection: Connection, rows: Sequence[NewRow]) -> None:
    """Adds rows."""
    if rows:
        connection.execute(insert(PictureRow), [row._asdict() for row in rows])


def statuses(connection: Connection, paths: Sequence[str]) -> list[tuple[str, str]]:
    """(path, status) of every row of some paths."""
    found: list[tuple[str, str]] = []
    for chunk in _chunks(paths):
        statement = select(PictureRow.path, PictureRow.status).where(_is_one_of(connection, chunk))
        found.extend((path, status) for path, status in connection.execute(statement))
    return found


def update_rows(connection: Connection, rows: Sequence[ChangedRow]) -> None:
    """Rewrites model_version, status and segments of rows."""
    if rows:
        table = PictureRow.__table__
        statement = (
            update(PictureRow)
            .where(PictureRow.id == bindparam("row_id"))
            .values({name: bindparam(name, type_=table.c[name].type) for name in ChangedRow._fields[1:]})
        )
        connection.execute(statement, [row._asdict() for row in rows])


def update_status(connection: Connection, paths: Sequence[str], status: str) -> None:
    """Sets the status of every row of some paths, where it is another one."""
    for chunk in _chunks(paths):
        connection.execute(
            update(PictureRow)
            .where(_is_one_of(connection, chunk), PictureRow.status != status)
            .values(status=status)
            .execution_options(synchronize_session=False)
        )


def delete_rows(connection: Connection, paths: Sequence[str]) -> int:
    """Removes every row of some paths; returns how many."""
    return sum(
        connection.execute(
            delete(PictureRow).where(_is_one_of(connection, chunk)).execution_options(synchronize_session=False)
        ).rowcount
        for chunk in _chunks(paths)
    )


def _select_stored() -> Select[int, str, str, str, str | None]:
    # As text: what cannot be decoded in one row must not stop the reading of all others.
    segments: Cast[str | None] = cast(PictureRow.segments, Text)
    return select(PictureRow.id, PictureRow.path, PictureRow.model_version, PictureRow.status, segments).order_by(
        PictureRow.id
    )


def _is_one_of(connection: Connection, paths: Sequence[str]) -> ColumnElement[bool]:
    """`path` is one of these, as one parameter whatever their number."""
    if connection.dialect.name == "postgresql":
        return PictureRow.path == any_(literal(list(paths), ARRAY(String)))
    values = func.json_each(json.dumps(list(paths))).table_valued("value")
    return PictureRow.path.in_(select(values.c.value))


def _chunks(paths: Iterable[str]) -> Iterator[list[str]]:
    listed = list(paths)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]
