"""Rows of older tools: read as far as they go, reported, never rewritten unasked."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from cls.pictures.database import PicturesDatabase, Status
from cls.pictures.engine import parse_url
from tests.pictures.people import person, record

_PERSON = '{"cls": "female", "conf": 0.9, "bbox": [1, 2, 30, 40], "segments": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}'
_TWO = f'{{"0": {_PERSON}, "1": {_PERSON}}}'
_ONE = f'{{"0": {_PERSON}}}'


def _put(url: str, *rows: tuple[str, str, str, str | None]) -> None:
    """Adds rows as another tool would: path, model_version, status, segments as JSON text."""
    engine = create_engine(parse_url(url))
    cast = "CAST(:segments AS jsonb)" if engine.dialect.name == "postgresql" else ":segments"
    statement = text(
        f"INSERT INTO pictures (path, model_version, status, segments) VALUES (:path, :version, :status, {cast})"
    )
    keys = ("path", "version", "status", "segments")
    with engine.begin() as connection:
        connection.execute(statement, [dict(zip(keys, row, strict=True)) for row in rows])
    engine.dispose()


def _all(url: str) -> list[Any]:
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text("SELECT * FROM pictures ORDER BY id"))]
    engine.dispose()
    return rows


@pytest.fixture
def url(database_url: str) -> str:
    PicturesDatabase.open(database_url).close()
    return database_url


def test_which_row_counts_where_a_path_repeats(url: str) -> None:
    _put(
        url,
        ("twice", "old", "unchecked", _ONE), ("twice", "new", "approved", _TWO),
        ("newest unreadable", "old", "unchecked", _ONE), ("newest unreadable", "new", "approved", "[1]"),
        ("newest null", "old", "approved", _ONE), ("newest null", "new", "unchecked", None),
        ("newest nobody", "old", "unchecked", _ONE), ("newest nobody", "new", "unchecked", "{}"),
        ("rejected once", "old", "rejected", _ONE), ("rejected once", "new", "approved", _TWO),
        ("rejected inside", "old", "approved", f'{{"status": "rejected", "0": {_PERSON}}}'),
        ("rejected and broken", "old", '{"status": "rejected"}', "[1]"),
        ("broken", "old", "unchecked", '{"0": 5}'),
        ("odd status", "old", "approved", _ONE), ("odd status", "new", "?", _ONE),
        ("status inside", "old", "", f'{{"status": "approved", "0": {_PERSON}}}'),
    )  # fmt: skip
    before = _all(url)
    with PicturesDatabase.open(url) as database:
        records = database.records()
        seen = {
            path: (read.model_version, read.status, None if read.people is None else len(read.people))
            for path, read in records.items()
        }
        assert seen == {
            "twice": ("new", "approved", 2),
            "newest unreadable": ("old", "approved", 1),
            "newest null": ("old", "unchecked", 1),
            "newest nobody": ("new", "unchecked", 0),
            "rejected once": ("new", "rejected", 2),
            "rejected inside": ("old", "rejected", 1),
            "rejected and broken": ("", "rejected", None),
            "odd status": ("new", "approved", 1),
            "status inside": ("old", "approved", 1),
        }
        assert {path: database.records([path]).get(path) is None for path in seen} == dict.fromkeys(seen, False)
        assert database.known_paths(["broken"]) == {"broken"}
        assert database.count() == 10
    assert _all(url) == before


def test_problems_are_counted_and_said_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    _put(
        url,
        *((f"{n}.jpeg", "old", "unchecked", '{"0": {"cls": "female"}}') for n in range(20)),
        ("ok", "a", "approved", "{}"),
    )
    with PicturesDatabase.open(url) as database, caplog.at_level(logging.WARNING, logger="cls"):
        assert database.records().keys() == {"ok"}
        assert len(database.problems) == 20
        assert "(7.jpeg): " in database.problems[7]
        database.records()
        assert len(database.problems) == 20
    (warning,) = caplog.records
    assert isinstance(warning.args, tuple)
    rows, shown, more = warning.args
    assert (rows, str(shown).count(".jpeg"), re.findall(r"\d+", str(more))) == ("20 rows", 5, ["15"])


def test_replace_rewrites_the_newest_row_alone(url: str) -> None:
    _put(url, ("a", "old", "unchecked", _ONE), ("a", "new", "unchecked", "[1]"), ("b", "old", "approved", _ONE))
    before = _all(url)
    with PicturesDatabase.open(url) as database:
        assert database.write_people([record("a", person(), person(seed=2))], replace=True) == 1
        assert len(database.records()["a"].people or ()) == 2
    after = _all(url)
    assert [after[0], after[2]] == [before[0], before[2]]
    assert len(after) == 3


def test_a_status_is_set_in_every_row_of_a_picture(url: str) -> None:
    _put(url, ("a", "old", "rejected", _ONE), ("a", "new", '{"status": "unchecked"}', _ONE))
    with PicturesDatabase.open(url) as database:
        assert database.records()["a"].status == "rejected"
        assert database.set_status(["a"], Status.APPROVED) == 1
        assert database.records()["a"].status == "approved"


def test_broken_text_in_sqlite(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'pictures.sqlite'}"
    PicturesDatabase.open(url).close()
    engine = create_engine(parse_url(url))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO pictures (path, model_version, status, segments) VALUES "
            "('cut.jpeg', 'old', 'approved', '{\"0\": {'), ('blob.jpeg', 'old', 'approved', x'ff00fe'), "
            "('number.jpeg', 'old', 'approved', 17), (CAST(x'ff41' AS TEXT), 'old', 'approved', '{}')"
        )
    engine.dispose()
    with PicturesDatabase.open(url) as database:
        assert database.records().keys() == {"\ufffdA"}
        assert len(database.problems) == 3
