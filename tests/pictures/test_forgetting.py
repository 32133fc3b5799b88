"""Rows that are removed from the pictures database for good."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest

from cls.errors import DatabaseError
from cls.pictures.database import PicturesDatabase
from tests.pictures.live_table import LIVE_TABLE, plain_url
from tests.pictures.people import person, record


def test_every_row_of_a_picture_goes(database_url: str) -> None:
    with PicturesDatabase.open(database_url) as database:
        names = [f"{number}.jpeg" for number in range(40)]
        database.write_people([record(name, person()) for name in names], replace=False)
        assert database.forget([*names[:3], "unknown.jpeg", "a\0b"]) == 3
        assert database.known_paths(names) == set(names[3:])
        assert database.forget(names[:3]) == 0


def test_nothing_of_it_is_left_in_the_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'pictures.sqlite'}"
    with PicturesDatabase.open(url) as database:
        records = [record(f"{number:03d}.jpeg", person(seed=number)) for number in range(200)]
        database.write_people(records, replace=False)
        database.write_people(records, replace=True)
        database.forget(["007.jpeg"])
        assert not [file for file in tmp_path.iterdir() if b"007.jpeg" in file.read_bytes()]
        assert [file for file in tmp_path.iterdir() if b"008.jpeg" in file.read_bytes()]


def test_while_others_read_it_says_what_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "pictures.sqlite"
    with PicturesDatabase.open(f"sqlite:///{file}") as database:
        database.write_people([record("a.jpeg", person()), record("b.jpeg")], replace=False)
        reader = sqlite3.connect(file, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM pictures").fetchone()
        database.forget(["a.jpeg"])
        (warning,) = caplog.records
        assert (warning.levelname, warning.name) == ("WARNING", "cls.pictures")
        assert "again" in warning.message, "whoever reads it can finish later"
        reader.close()
        caplog.clear()
        assert database.forget(["a.jpeg"]) == 0
        assert caplog.text == ""
        assert not [path for path in tmp_path.iterdir() if b"a.jpeg" in path.read_bytes()]


def test_rights_that_do_not_suffice_are_told(fresh_postgres_url: str) -> None:
    with psycopg.connect(plain_url(fresh_postgres_url), autocommit=True) as connection:
        connection.execute(LIVE_TABLE)
        PicturesDatabase.open(fresh_postgres_url).close()
        connection.execute("INSERT INTO pictures (path, model_version, status) VALUES ('a.jpeg', 'x', 'unchecked')")
        connection.execute("DROP ROLE IF EXISTS annotator")
        connection.execute("CREATE ROLE annotator LOGIN")
        connection.execute("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO annotator")
        separator = "&" if "?" in fresh_postgres_url else "?"
        url = f"{fresh_postgres_url}{separator}options=-crole%3Dannotator"
        with PicturesDatabase.open(url) as database:
            assert database.forget(["other.jpeg"]) == 0
            with pytest.raises(DatabaseError) as caught:
                database.forget(["a.jpeg"])
            assert caught.value.code == "database.missing_rights"
            assert "DELETE" in (caught.value.hint or "")
            assert database.known_paths(["a.jpeg"]) == {"a.jpeg"}
        connection.execute("DROP OWNED BY annotator")
        connection.execute("DROP ROLE annotator")
