"""The pictures database's engines, its table kept up to date, and its failures as one line."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from cls.errors import DatabaseError
from cls.pictures.queries import COLUMNS, PictureRow

_log = logging.getLogger("cls.pictures")

HEAD = "0002"
# A table of our own: another application in the same database may use Alembic's usual name.
VERSION_TABLE = "cls_pictures_version"
MIGRATIONS = Path(__file__).resolve().parent / "migrations"
_LOCK_KEY = 0x636C7370  # "clsp"
_LOCK_WAIT_S = 150.0
# No rights, a server that takes no writes, waited too long for others' transactions: the table works without.
_STATES_TO_GO_ON_WITHOUT = {"42501", "25006", "55P03", "57014", "40P01"}
_warned: set[str] = set()

ATTEMPTS = 10
TIMEOUT_S = 60.0
WAIT_INITIAL_S = 0.2
_CONFLICTS = 2

# Deadlock, serialization failure, a server shutting down or starting up: the same transaction can succeed later.
_PASSING_STATES = {"40P01", "40001", "57P01", "57P02", "57P03"}
_BUSY_TIMEOUT_S = 30.0
_READERS_WAITED_FOR_MS = 2000

# libpq's own patience with a server that is gone is hours; an option in the URL goes before these.
_CONNECTION_DEFAULTS = {"connect_timeout": "10", "keepalives_idle": "60", "tcp_user_timeout": "120000"}
_SQLITE_PREFIXES = ("sqlite:///", "sqlite+pysqlite:///")

# Execution option: a transaction that is going to write; on SQLite it takes the write lock at its start.
WRITES = "cls_writes"

# Code and hint of an error.
_LOGIN_REFUSED = ("login_refused", "check user and password in key 'pictures_info_db_url'")

_ACCESS_DENIED = (
    "access_denied",
    "check user and password in key 'pictures_info_db_url', and the server's pg_hba.conf",
)

_DATABASE_NOT_FOUND = (
    "database_not_found",
    "create the database on the server, or correct its name in key 'pictures_info_db_url'",
)
_HOST_NOT_FOUND = ("host_not_found", "check the host's name in key 'pictures_info_db_url'")
_ANY_CASE = ("unusable", "check key 'pictures_info_db_url' and the server, then run the same command again")

_CASES_BY_STATE = {
    "28P01": _LOGIN_REFUSED,
    "28000": _ACCESS_DENIED,
    "3D000": _DATABASE_NOT_FOUND,
    "42501": (
        "missing_rights",
        (
            "ask the database's owner for the rights SELECT, INSERT and UPDATE on the table `pictures`"
            " (`cls forget`: DELETE too)"
        ),
    ),
    "25006": ("read_only_server", "this server takes no writes: give the address of the one that does"),
    "23505": (
        "duplicate_key",
        (
            "if the key that exists is the table's `id`, its sequence is behind: "
            "SELECT setval(pg_get_serial_sequence('pictures', 'id'), max(id)) FROM pictures"
        ),
    ),
    "53300": ("too_many_connections", "the server has no free connection: try again, or close other clients"),
    "42P01": ("table_not_found", "the table `pictures` has gone: run the command again to make it"),
}

_CASES_BY_TEXT = {
    "password authentication failed": _LOGIN_REFUSED,
    "no password supplied": _LOGIN_REFUSED,
    'role "': _LOGIN_REFUSED,
    "no pg_hba.conf entry": _ACCESS_DENIED,
    "does not exist": _DATABASE_NOT_FOUND,
    "refused": ("unreachable", "check host and port in key 'pictures_info_db_url', and that PostgreSQL runs there"),
    "resolve": _HOST_NOT_FOUND,
    "translate host name": _HOST_NOT_FOUND,
    "timeout": ("timeout", "check host and port in key 'pictures_info_db_url', and the network between"),
    "file is not a database": (
        "not_sqlite",
        "the file is no SQLite database: move it away, or name another in 'pictures_info_db_url'",
    ),
    "malformed": ("damaged", "the file is damaged: restore it from a copy, or repair it with `sqlite3 FILE .recover`"),
    "unable to open database file": (
        "file_not_opened",
        "check that the path is a file in a folder that can be written",
    ),
    "readonly database": ("unwritable", "the file or its folder cannot be written: check their permissions"),
    "database is locked": ("locked", "another process has held the database for long: wait for it or stop it"),
    "disk is full": ("no_space", "free some space and run the same command again"),
    "No space left": ("no_space", "free some space on the server and run the same command again"),
}


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
            if state not in _STATES_TO_GO_ON_WITHOUT or not inspect(engine).has_table("pictures"):
                raise
            _warn_once(engine, str(error.orig).splitlines()[0])
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
            where=redacted_url(engine.url),
            hint="name the right database in key 'pictures_info_db_url', or add the columns",
        )


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
                    where=redacted_url(engine.url),
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


def _warn_once(engine: Engine, reason: str) -> None:
    where = redacted_url(engine.url)
    if where not in _warned:
        _warned.add(where)
        _log.info("%s: used as it stands, without our index on `path` (%s)", where, reason)


class TransactionRetry:
    """Judges whether the same transaction may succeed at the next try."""

    def __init__(self) -> None:
        self._n_conflicts = 0

    def __call__(self, error: Exception) -> bool:
        """Whether to try again after this failure."""
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


def parse_url(text: str) -> URL:
    """Reads the URL of a pictures database.

    PostgreSQL is always spoken to through psycopg 3, whatever driver the URL names (decision 0003). All of an SQLite
    URL after the third stroke is the file's path: a `?` or `#` in it is part of a name.

    Raises:
        DatabaseError: it is not a URL of PostgreSQL or SQLite.
    """
    for prefix in _SQLITE_PREFIXES:
        if text.startswith(prefix) and text.removeprefix(prefix) not in ("", ":memory:"):
            return URL.create("sqlite", database=text.removeprefix(prefix))
    try:
        url = make_url(text.replace("postgres://", "postgresql://", 1) if text.startswith("postgres://") else text)
    except (ArgumentError, ValueError):
        url = None
    # The text itself is not shown: it may hold a password at a place where nobody looks for one.
    if url is None or url.get_backend_name() != "postgresql":
        raise DatabaseError(
            "the URL of the pictures database is not one of PostgreSQL or of an SQLite file",
            code="invalid_url",
            where="key 'pictures_info_db_url'",
            hint="write postgresql+psycopg2://user:password@host:5432/database or sqlite:////folder/file.sqlite",
        )
    return url.set(drivername="postgresql+psycopg")


def redacted_url(url: URL) -> str:
    """The URL as it may be printed: without its password."""
    hidden = url.update_query_dict({key: "***" for key in url.query if "password" in key.lower()})
    return hidden.render_as_string(hide_password=True)


def make_engine(url: URL) -> Engine:
    """An engine with the settings each database needs; nothing is connected yet."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    defaults = {key: value for key, value in _CONNECTION_DEFAULTS.items() if key not in url.query}
    return create_engine(
        url,
        pool_size=2,
        pool_pre_ping=True,  # servers and proxies hang up while a segmentation pauses for minutes between writes
        hide_parameters=True,
        connect_args={
            "client_encoding": "utf8",
            "application_name": "cls",
            "prepare_threshold": None,  # prepared statements do not survive connection poolers such as pgbouncer
            **defaults,
        },
    )


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions start where we say (below), not where the driver guesses
    connection.text_factory = lambda content: content.decode(errors="replace")
    connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    # A reading transaction that starts to write fails at once when another writer was faster; one that takes the
    # write lock at its start waits for its turn.
    is_writing = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


def empty_free_space(engine: Engine) -> bool:
    """Writes an SQLite file again without what was removed from it, and empties its journal; nothing on PostgreSQL.

    Returns:
        Whether it could be done to the end: while others read, the journal stays.
    """
    if engine.dialect.name != "sqlite":
        return True
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")  # neither works inside the transaction that every connection begins
        connection.exec_driver_sql("VACUUM")
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_READERS_WAITED_FOR_MS}")
        row = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT_S * 1000)}")
    return not row[0]


def make_empty_engine() -> Engine:
    """An SQLite database in memory with an empty table: what a file that does not exist holds."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    PictureRow.metadata.create_all(engine)
    return engine


def is_absent(url: URL) -> bool:
    """Whether the URL names an SQLite file that does not exist; a path that cannot be looked at is not absent."""
    if url.get_backend_name() != "sqlite" or url.database is None:
        return False
    try:
        Path(url.database).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # opening it says what is wrong
    return False


def make_sqlite_folder(url: URL) -> None:
    """Makes the folder of an SQLite file, as a new bottle has none.

    Raises:
        DatabaseError: it cannot be made.
    """
    if url.get_backend_name() != "sqlite" or url.database is None:
        return
    folder = Path(url.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(
            f"the folder of the pictures database cannot be made: {error.strerror}",
            code="folder_not_made",
            where=folder,
            hint="check data_path and 'pictures_info_db_url' in the configuration, and permissions",
        ) from error


@contextmanager
def expected_failures(url: URL) -> Iterator[None]:
    """Turns failures of the database into a `DatabaseError` of one line with a hint, the password left out."""
    try:
        yield
    except DBAPIError as error:
        raise _error_of(url, str(error.orig), getattr(error.orig, "sqlstate", None)) from error
    except SQLAlchemyError as error:
        raise _error_of(url, str(error), None) from error


def _error_of(url: URL, message: str, state: str | None) -> DatabaseError:
    """One line out of a driver's message."""
    for secret in (url.password, *(url.query[key] for key in url.query if "password" in key.lower())):
        if secret:
            message = message.replace(str(secret), "***")
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    # psycopg lists every address it tried; the last line that says what failed is the one to show.
    failures = [line for line in lines if "failed:" in line or "error" in line.lower()]
    line = (failures or lines or ["it failed without a message"])[0]
    by_text = [case for part, case in _CASES_BY_TEXT.items() if part in message]
    code, hint = _CASES_BY_STATE.get(state or "") or (by_text or [_ANY_CASE])[0]
    return DatabaseError(f"the pictures database cannot be used: {line}", code=code, where=redacted_url(url), hint=hint)
