"""The table is made, adopted and migrated without disturbing anybody."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from cls.errors import DatabaseError
from cls.pictures import engine
from cls.pictures.database import PicturesDatabase, Status
from cls.pictures.engine import HEAD, MIGRATIONS, VERSION_TABLE, parse_url
from cls.pictures.queries import Base
from tests.pictures.live_table import LIVE_TABLE, plain_url
from tests.pictures.people import person, record
from tests.preloaded import Program


@pytest.fixture
def live_url(fresh_postgres_url: str) -> str:
    """A database with the older tool's table and a thousand rows in it."""
    with psycopg.connect(plain_url(fresh_postgres_url)) as connection:
        connection.execute(LIVE_TABLE)
        connection.execute(
            "INSERT INTO pictures (path, model_version, status, segments) "
            "SELECT n || '.jpeg', 'best', 'approved', '{}' FROM generate_series(1, 1000) AS n"
        )
    return fresh_postgres_url


def _indexes(url: str) -> set[str]:
    engine = create_engine(parse_url(url))
    try:
        return {str(index["name"]) for index in inspect(engine).get_indexes("pictures")}
    finally:
        engine.dispose()


def test_the_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrations_make_what_the_table_class_says(database_url: str) -> None:
    PicturesDatabase.open(database_url).close()
    engine = create_engine(parse_url(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        differences = compare_metadata(context, Base.metadata)
    engine.dispose()
    # Our index stands in the migrations alone: a site may do without it.
    assert [difference[0] for difference in differences] == ["remove_index"]
    assert _indexes(database_url) == {"cls_pictures_path"}


def test_an_up_to_date_database_is_only_looked_at(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PicturesDatabase.open(database_url).close()
    monkeypatch.setattr(engine, "_migrate", lambda engine: pytest.fail("migrated again"))
    PicturesDatabase.open(database_url).close()


def test_a_live_table_is_adopted_as_it_stands(live_url: str) -> None:
    with PicturesDatabase.open(live_url) as database:
        assert database.count() == 1000
        assert database.records(["7.jpeg"])["7.jpeg"].people == ()
        database.write_people([record("new.jpeg", person())], replace=False)
    with psycopg.connect(plain_url(live_url)) as connection:
        columns = connection.execute(
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_name = 'pictures' ORDER BY ordinal_position"
        ).fetchall()
        assert [name for name, _, _ in columns] == ["id", "path", "model_version", "status", "segments"]
        assert connection.execute("SELECT max(id) FROM pictures").fetchone() == (1001,)
    assert _indexes(live_url) == {"cls_pictures_path"}


def test_alembic_of_another_application_is_left_alone(live_url: str) -> None:
    with psycopg.connect(plain_url(live_url)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('f00')")
    PicturesDatabase.open(live_url).close()
    with psycopg.connect(plain_url(live_url)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("f00",)]


def test_an_index_of_the_site_is_enough(live_url: str) -> None:
    with psycopg.connect(plain_url(live_url)) as connection:
        connection.execute("CREATE UNIQUE INDEX theirs ON pictures (path)")
    PicturesDatabase.open(live_url).close()
    assert _indexes(live_url) == {"theirs"}


def test_a_table_in_use_is_not_waited_for(live_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with psycopg.connect(plain_url(live_url)) as busy:
        busy.execute("INSERT INTO pictures (path, model_version, status) VALUES ('theirs.jpeg', 'x', 'unchecked')")
        with caplog.at_level(logging.INFO, logger="cls"), PicturesDatabase.open(live_url) as database:
            assert database.count() == 1000
            assert database.write_people([record("ours.jpeg", person())], replace=False) == 1
        busy.commit()
    assert "used as it stands, without our index" in caplog.text
    # The index that was begun and not finished is made good at the next opening.
    with PicturesDatabase.open(live_url) as database:
        assert database.count() == 1002
    with psycopg.connect(plain_url(live_url)) as connection:
        valid = connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'cls_pictures_path'::regclass")
        assert valid.fetchall() == [(True,)]


def test_a_user_without_rights_to_create_works(
    live_url: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(plain_url(live_url)) as connection:
        connection.execute("DROP ROLE IF EXISTS annotator")
        connection.execute("CREATE ROLE annotator LOGIN PASSWORD 'an-otator'")
        connection.execute("GRANT SELECT, INSERT, UPDATE ON pictures TO annotator")
        connection.execute("GRANT USAGE ON SEQUENCE pictures_id_seq TO annotator")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    user_url = live_url.replace("postgres:s3cret-word", "annotator:an-otator")
    with caplog.at_level(logging.INFO, logger="cls"):
        for _ in range(2):
            with PicturesDatabase.open(user_url) as database:
                database.write_people([record("a.jpeg", person())], replace=True)
                assert database.set_status(["a.jpeg"], Status.APPROVED) in (0, 1)
                assert database.count() == 1001
    assert caplog.text.count("used as it stands") == 1
    assert "an-otator" not in caplog.text
    assert _indexes(live_url) == set()
    # Its version table made by the owner and closed to the user changes nothing.
    PicturesDatabase.open(live_url).close()
    with PicturesDatabase.open(user_url) as database:
        assert database.count() == 1001
    with psycopg.connect(plain_url(live_url)) as connection:
        connection.execute("DROP OWNED BY annotator")
        connection.execute("DROP ROLE annotator")


def test_no_table_and_no_rights(fresh_postgres_url: str) -> None:
    with psycopg.connect(plain_url(fresh_postgres_url)) as connection:
        connection.execute("CREATE ROLE stranger LOGIN PASSWORD 'str-anger'")
    with pytest.raises(DatabaseError) as caught:
        PicturesDatabase.open(fresh_postgres_url.replace("postgres:s3cret-word", "stranger:str-anger"))
    assert caught.value.code == "database.missing_rights"
    with psycopg.connect(plain_url(fresh_postgres_url)) as connection:
        connection.execute("DROP ROLE stranger")


def test_a_table_that_lacks_columns(database_url: str) -> None:
    engine = create_engine(parse_url(database_url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE pictures (id INTEGER PRIMARY KEY, path VARCHAR(255))"))
    engine.dispose()
    with pytest.raises(DatabaseError) as caught:
        PicturesDatabase.open(database_url)
    assert caught.value.code == "database.missing_columns"
    assert caught.value.what.endswith(" model_version, status, segments")


OPEN_AND_WRITE = """
import sys
from cls.pictures.database import PicturesDatabase
from tests.pictures.live_table import LIVE_TABLE, plain_url
from tests.pictures.people import person, record
with PicturesDatabase.open(sys.argv[1]) as database:
    print(database.write_people([record(f"{n}.jpeg", person()) for n in range(3000)], replace=sys.argv[2] == "replace"))
"""


@pytest.mark.parametrize("mode", ["skip", "replace"])
def test_processes_at_the_same_time_make_one_table_and_double_nothing(database_url: str, mode: str) -> None:
    words = ["-c", OPEN_AND_WRITE, database_url, mode]
    root = Path(__file__).parents[2]
    processes = [Program(words, cwd=root, stdout=subprocess.PIPE) for _ in range(3)]
    written = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(written) == (3000 if mode == "skip" else 9000)
    engine = create_engine(parse_url(database_url))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pictures")) == 3000
    engine.dispose()
    assert _indexes(database_url) == {"cls_pictures_path"}
