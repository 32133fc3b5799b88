"""Makes sure that the table is there and up to date; costs one small query when it is."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from cls.errors import DatabaseError
from cls.pictures.engine import WRITES, expected_failures, shown
from cls.pictures.queries import COLUMNS

HEAD = "0002"
# A table of our own: another application in the same database may use Alembic's usual name.
VERSION_TABLE = "cls_pictures_version"
MIGRATIONS = Path(__file__).resolve().parent / "migrations"
_LOCK_KEY = 0x636C7370  # "clsp"
_LOCK_WAIT_S = 150.0
# No rights, a server that takes no writes, waited too long for others' transactions: the table works without.
_STATES_TO_GO_ON_WITHOUT = {"42501", "25006", "55P03", "57014", "40P01"}
_told: set[str] = set()

_log = logging.getLogger("cls.pictures")


def ensure_schema(engine: Engine) -> None:
    """Creates or migrates what is missing, and leaves an existing table as it stands.

    A user without the right to create an index or a table works without; that is logged once.

    Raises:
        DatabaseError: there is no table and it cannot be made, or it lacks columns.
    """
    with expected_failures(engine.url):
        if _version(engine) == HEAD:
            return
        try:
            with _one_at_a_time(engine):
                if _version(engine) != HEAD:
                    _migrate(engine)
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state not in _STATES_TO_GO_ON_WITHOUT or not _has_table(engine):
                raise
            _tell_once(engine, str(error.orig).splitlines()[0])
    check_columns(engine)


def check_columns(engine: Engine) -> None:
    """Checks that the table has its columns (it may have more)."""
    with expected_failures(engine.url), engine.connect() as connection:
        found = set(connection.execute(text("SELECT * FROM pictures LIMIT 0")).keys())
    missing = [column for column in COLUMNS if column not in found]
    if missing:
        raise DatabaseError(
            f"the table `pictures` lacks the columns {', '.join(missing)}",
            code="missing_columns",
            where=shown(engine.url),
            hint="name the right database in key 'pictures_info_db_url', or add the columns",
        )


def _has_table(engine: Engine) -> bool:
    return inspect(engine).has_table("pictures")


def _version(engine: Engine) -> str | None:
    """The version the database says it has; None where it says nothing, or says it to others only."""
    inspector = inspect(engine)
    if not inspector.has_table(VERSION_TABLE):
        return None
    try:
        with engine.connect() as connection:
            version: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a constant
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != "42501":
            raise
        return None
    return version


@contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    """Lets one opener migrate while others wait.

    On PostgreSQL a transaction on a connection of its own holds an advisory lock, which is polled for: a statement
    that waits for it would hold a snapshot, and building an index concurrently waits for everybody's snapshots. On
    SQLite the migration's own transaction is the lock.
    """
    if engine.dialect.name == "sqlite":
        yield
        return
    deadline_s = time.monotonic() + _LOCK_WAIT_S
    with engine.connect() as connection:
        while True:
            connection.begin()
            # The key is written out: a statement with parameters leaves a portal open, and with it a snapshot.
            if connection.scalar(text(f"SELECT pg_try_advisory_xact_lock({_LOCK_KEY})")):
                break
            connection.rollback()
            if time.monotonic() > deadline_s:
                raise DatabaseError(
                    "another process has been migrating the pictures database for long",
                    code="migration_running",
                    where=shown(engine.url),
                    hint="wait for it or stop it, then run the same command again",
                )
            time.sleep(random.uniform(0.05, 0.25))  # noqa: S311 - spreads the waiting, keeps no secret
        yield
        connection.rollback()


def _migrate(engine: Engine) -> None:
    """Runs the migrations that are missing."""
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
            _run_alembic(connection)
        return
    with engine.connect() as connection:
        _run_alembic(connection)


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    alembic_log = logging.getLogger("alembic")
    level = alembic_log.level
    alembic_log.setLevel(logging.WARNING)
    try:
        command.upgrade(config, "head")
    finally:
        alembic_log.setLevel(level)


def _tell_once(engine: Engine, reason: str) -> None:
    where = shown(engine.url)
    if where not in _told:
        _told.add(where)
        _log.info("%s: used as it stands, without our index on `path` (%s)", where, reason)
