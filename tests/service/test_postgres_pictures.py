"""The pictures database on a server that is in use, restarts, is older, or loses its client."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from cls.pictures.database import PicturesDatabase, Status
from cls.settings import REPOSITORY
from tests.pictures.live_table import LIVE_TABLE, plain_url
from tests.pictures.people import person, record
from tests.postgres_server import PostgresServer, running_postgres
from tests.preloaded import Program


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    with running_postgres() as server:
        yield server


def test_an_older_server() -> None:
    with running_postgres(16) as server, PicturesDatabase.open(server.url()) as database:
        names = [f"{n}.jpeg" for n in range(2500)]
        assert database.write_people([record(name, person()) for name in names], replace=False) == 2500
        assert database.write_people([record(name) for name in names[:10]], replace=True) == 10
        assert database.known_paths([*names, "other"]) == set(names)
        assert database.set_status(names[:3], Status.REJECTED) == 3
        assert len(database.reject(["3.jpeg", "new.jpeg"]).unknown) == 1
        assert database.records(["0.jpeg", "100.jpeg"]).keys() == {"0.jpeg", "100.jpeg"}


def test_others_hardly_feel_the_migration(fresh_postgres_url: str) -> None:
    """40,000 rows, somebody else reads and writes all the time: none of their statements waits for long."""
    plain = plain_url(fresh_postgres_url)
    with psycopg.connect(plain) as connection:
        connection.execute(LIVE_TABLE)
        connection.execute(
            "INSERT INTO pictures (path, model_version, status, segments) "
            "SELECT md5(n::text) || '.jpeg', 'best', 'approved', '{}' FROM generate_series(1, 40000) AS n"
        )
    waits_s: list[float] = []
    is_over = threading.Event()

    def annotate() -> None:
        with psycopg.connect(plain, autocommit=True) as connection:
            while not is_over.is_set():
                started_s = time.monotonic()
                connection.execute("UPDATE pictures SET status = 'rejected' WHERE id = 17")
                connection.execute(
                    "INSERT INTO pictures (path, model_version, status) VALUES ('theirs.jpeg', 'x', 'unchecked')"
                )
                waits_s.append(time.monotonic() - started_s)

    annotator = threading.Thread(target=annotate)
    annotator.start()
    try:
        with PicturesDatabase.open(fresh_postgres_url) as database:
            assert database.count() >= 40_000
    finally:
        is_over.set()
        annotator.join()
    with psycopg.connect(plain) as connection:
        query = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'cls_pictures_path'::regclass"
        assert connection.execute(query).fetchone() == (True,)
    assert len(waits_s) > 5
    assert max(waits_s) < 2.0


CUT_WRITERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'cls' AND xact_start IS NOT NULL AND query LIKE 'INSERT INTO pictures%'
"""
WRITE = """
import sys
from cls.pictures.database import PicturesDatabase
from tests.pictures.live_table import LIVE_TABLE, plain_url
from tests.pictures.people import person, record
with PicturesDatabase.open(sys.argv[1]) as database:
    records = [record(f"{n}.jpeg", person(n_points=80, seed=n)) for n in range(8000)]
    print("ready", flush=True)
    database.write_people(records, replace=False)
"""


def test_a_killed_writer_leaves_whole_batches_and_can_go_on(fresh_postgres_url: str) -> None:
    process = Program(["-c", WRITE, fresh_postgres_url], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with PicturesDatabase.open(fresh_postgres_url) as database:
        deadline_s = time.monotonic() + 60
        while database.count() < 1000 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        time.sleep(0.2)
        assert 1000 <= database.count() < 8000
        assert database.count() % 1000 == 0
        n_before = database.count()
        records = [record(f"{n}.jpeg", person(n_points=80, seed=n)) for n in range(8000)]
        assert database.write_people(records, replace=False) == 8000 - n_before
    with psycopg.connect(plain_url(fresh_postgres_url)) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT path) FROM pictures").fetchone() == (8000, 8000)


def test_a_server_that_ends_every_connection_in_the_middle(own_server: PostgresServer) -> None:
    """As when a server is restarted quickly or a pooler drops its clients: the writer goes on, nothing is doubled."""
    with PicturesDatabase.open(own_server.url()) as database:
        records = [record(f"{n}.jpeg", person(n_points=40, seed=n)) for n in range(4000)]
        is_over = threading.Event()
        cut_at: list[int] = []  # how many rows there were; once each, so that every batch can be finished

        def cut() -> None:
            with psycopg.connect(plain_url(own_server.url()), autocommit=True) as connection:
                while not is_over.wait(0.01):
                    (rows,) = connection.execute("SELECT count(*) FROM pictures").fetchone() or (0,)
                    if rows not in cut_at and connection.execute(CUT_WRITERS).fetchall():
                        cut_at.append(rows)

        cutter = threading.Thread(target=cut)
        cutter.start()
        try:
            written = database.write_people(records, replace=False)
        finally:
            is_over.set()
            cutter.join()
        assert len(cut_at) >= 2
        assert written <= 4000
        assert database.count() == 4000
    with psycopg.connect(plain_url(own_server.url())) as connection:
        assert connection.execute("SELECT count(*) FROM pictures").fetchone() == (4000,)
