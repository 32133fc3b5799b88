"""A database that cannot be used: one line that says what and what next, and never the password."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import psycopg
import pytest

from cls.errors import DatabaseError
from cls.pictures.database import PicturesDatabase
from cls.pictures.engine import parse_url, redacted_url
from cls.settings import load_settings
from tests.pictures.people import person, record


def _line(url: str, code: str) -> str:
    """The line of the error of a database that cannot be opened."""
    with pytest.raises(DatabaseError) as caught:
        PicturesDatabase.open(url)
    line = caught.value.line()
    assert "\n" not in line
    assert caught.value.hint
    assert caught.value.code == f"database.{code}"
    return line


def test_nobody_listens() -> None:
    line = _line("postgresql+psycopg2://anna:geheim77@127.0.0.1:1/pictures", "unreachable")
    assert "127.0.0.1:1" in line
    assert "geheim77" not in line
    assert "anna" in line


def test_an_unknown_host() -> None:
    line = _line("postgresql://anna:geheim77@no-such-host.invalid/pictures", "host_not_found")
    assert "no-such-host.invalid" in line
    assert "geheim77" not in line


def test_a_wrong_password(postgres_url: str) -> None:
    line = _line(postgres_url.replace("s3cret-word", "geheim77"), "login_refused")
    assert "geheim77" not in line


def test_no_such_database(postgres_url: str) -> None:
    line = _line(postgres_url.removesuffix("/postgres") + "/nothing_here", "database_not_found")
    assert '"nothing_here"' in line


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a:geheim77@host/x",
        "nonsense geheim77",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://a:b@host:geheim77/x",
        "://",
    ],
)
def test_a_url_of_something_else(url: str) -> None:
    line = _line(url, "invalid_url")
    assert "pictures_info_db_url" in line
    assert "geheim77" not in line


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://u:p%40ss@h:5432/d",
        "postgresql://u:p%40ss@h:5432/d",
        "postgres://u:p%40ss@h:5432/d",
        "postgresql+asyncpg://u:p%40ss@h:5432/d",
    ],
)
def test_every_postgresql_url_is_spoken_to_through_psycopg_3(url: str) -> None:
    parsed = parse_url(url)
    assert (parsed.drivername, parsed.password, parsed.database) == ("postgresql+psycopg", "p@ss", "d")
    assert "p@ss" not in redacted_url(parsed)
    assert "p%40ss" not in redacted_url(parsed)


def test_a_password_among_the_options_is_hidden() -> None:
    assert "geheim77" not in redacted_url(parse_url("postgresql://h/d?password=geheim77&sslpassword=geheim77"))


@pytest.mark.parametrize("name", ["with space.sqlite", "what?.sqlite", "a#b%41.sqlite", "фото.sqlite"])
def test_sqlite_files_of_any_name_and_in_a_new_folder(tmp_path: Path, name: str) -> None:
    file = tmp_path / "new folder?" / name
    with PicturesDatabase.open(f"sqlite:///{file}") as database:
        database.write_people([record("a.jpeg", person())], replace=False)
    assert file.is_file()
    assert [path.name for path in file.parent.iterdir()] == [
        name
    ]  # no journal is left behind: the file can be copied as it is


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "pictures.sqlite"
    file.write_text("these are my notes, not a database\n" * 100)
    assert str(file) in _line(f"sqlite:///{file}", "not_sqlite")
    assert file.read_text().startswith("these are my notes")


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    assert str(tmp_path) in _line(f"sqlite:///{tmp_path}", "file_not_opened")


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in _line(f"sqlite:///{tmp_path / 'file' / 'pictures.sqlite'}", "folder_not_made")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "check" in _line(f"sqlite:///{tmp_path / 'closed' / 'pictures.sqlite'}", "file_not_opened")


def test_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "pictures.sqlite"
    with PicturesDatabase.open(f"sqlite:///{file}") as database:
        database.write_people([record(f"{n}.jpeg", person()) for n in range(2000)], replace=False)
    content = bytearray(file.read_bytes())
    content[4096:] = b"\x55" * (len(content) - 4096)
    file.write_bytes(bytes(content))
    with (
        pytest.raises(DatabaseError) as caught,
        PicturesDatabase.open(f"sqlite:///{file}") as database,
    ):
        database.records()
    assert caught.value.code == "database.damaged"


def test_an_sqlite_writer_waits_for_another(tmp_path: Path) -> None:
    file = tmp_path / "pictures.sqlite"
    with PicturesDatabase.open(f"sqlite:///{file}") as database:
        other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.5, lambda: other.execute("COMMIT"))
        timer.start()
        assert database.count() == 0  # readers do not wait
        assert database.write_people([record("a.jpeg", person())], replace=False) == 1
        timer.join()
        other.close()


def test_an_id_sequence_that_is_behind(fresh_postgres_url: str) -> None:
    with PicturesDatabase.open(fresh_postgres_url) as database:
        with psycopg.connect(fresh_postgres_url.replace("+psycopg2", "")) as connection:
            connection.execute(
                "INSERT INTO pictures (id, path, model_version, status) VALUES (1, 'x', 'y', 'approved')"
            )
        # A used-up number costs a try each; ids that stand in the way for long are reported.
        with psycopg.connect(fresh_postgres_url.replace("+psycopg2", "")) as connection:
            connection.execute(
                "INSERT INTO pictures (id, path, model_version, status) "
                "SELECT n, n || 'x', 'y', 'approved' FROM generate_series(2, 500) AS n"
            )
        with pytest.raises(DatabaseError) as caught:
            database.write_people([record("a.jpeg", person())], replace=False)
        assert caught.value.code == "database.duplicate_key"
        assert database.count() == 500


def test_a_dropped_connection_is_made_again(fresh_postgres_url: str) -> None:
    with PicturesDatabase.open(fresh_postgres_url) as database:
        database.write_people([record("a.jpeg", person())], replace=False)
        with psycopg.connect(fresh_postgres_url.replace("+psycopg2", ""), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cls' "
                "AND datname = current_database()"
            )
        assert database.write_people([record("b.jpeg", person())], replace=False) == 1
        assert database.count() == 2


def test_a_relative_sqlite_file_lies_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(
        "data_path: 'bottle'\npictures_info_db_url: 'sqlite:///db/team.sqlite'\n"
    )
    settings = load_settings(tmp_path / "configuration.yaml", {})
    assert settings.pictures_info_db_url == f"sqlite:///{tmp_path}/db/team.sqlite"
    PicturesDatabase.open(settings.pictures_info_db_url).close()
    assert (tmp_path / "db" / "team.sqlite").is_file()
