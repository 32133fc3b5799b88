"""How fast are people written to and looked up in the pictures database?

The peer writes as the older tool did: one ORM object and one commit a picture. Both engines, on this machine; rows hold
outlines of about 3.3 KB of JSON, as real masks do.

    .venv/bin/python benchmarks/database_rate.py [--rows 40000]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cls.people.photos import Person
from cls.pictures.database import PictureRecord, PicturesDatabase, Status
from cls.pictures.engine import parse_url
from cls.pictures.queries import PictureRow
from cls.pictures.segments import segments_of_people
from tests.postgres_server import running_postgres

_PEER_ROWS = 1_000
_POINTS = 82  # of each of two outlines: 3.3 KB of JSON


def make_records(count: int) -> list[PictureRecord]:
    """Pictures of two people each; outlines that differ, so that they do not compress better than real ones."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    records = []
    for number in range(count):
        people = []
        for cls in ("female", "male"):
            radii = 0.2 + 0.1 * np.convolve(rng.random(_POINTS), np.ones(7) / 7, "same")
            outline = 0.5 + np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
            people.append(Person(cls, 0.9, (10.0, 20.0, 200.0, 400.0), (outline,)))
        records.append(PictureRecord(f"{number:032x}.jpeg", "best", Status.UNCHECKED, tuple(people)))
    return records


def rate_of_peer(url: str, records: list[PictureRecord]) -> float:
    """Rows a second of one ORM object and one commit a picture."""
    engine = create_engine(parse_url(url))
    started_s = time.perf_counter()
    with Session(engine) as session:
        for record in records:
            segments = segments_of_people(record.people)
            row = PictureRow(path=record.path, model_version="best", status=record.status, segments=segments)
            session.add(row)
            session.commit()
    rate = len(records) / (time.perf_counter() - started_s)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM pictures"))
    engine.dispose()
    return rate


def measure(name: str, url: str, records: list[PictureRecord]) -> None:
    """Prints the rates of one engine."""
    PicturesDatabase.open(url).close()
    peer = rate_of_peer(url, records[:_PEER_ROWS])
    with PicturesDatabase.open(url) as database:
        started_s = time.perf_counter()
        database.write_people(records, replace=False)
        written_s = time.perf_counter() - started_s
        paths = [record.path for record in records] + [f"absent {n}" for n in range(len(records))]
        started_s = time.perf_counter()
        assert len(database.known_paths(paths)) == len(records)
        known_s = time.perf_counter() - started_s
        started_s = time.perf_counter()
        assert len(database.records(paths)) == len(records)
        read_s = time.perf_counter() - started_s
        started_s = time.perf_counter()
        database.write_people(records, replace=True)
        replaced_s = time.perf_counter() - started_s
    started_s = time.perf_counter()
    PicturesDatabase.open(url).close()
    opened_s = time.perf_counter() - started_s
    rate = len(records) / written_s
    print(f"{name}, {len(records)} rows")
    print(f"  write, batches of 1,000        {rate:8.0f} rows/s")
    print(f"  write, ORM with a commit each  {peer:8.0f} rows/s   -> ours is {rate / peer:.1f} times as fast")
    print(f"  write again with replace       {len(records) / replaced_s:8.0f} rows/s")
    print(f"  which of {len(paths)} paths exist   {known_s * 1000:8.0f} ms")
    print(f"  read and parse all of them     {len(records) / read_s:8.0f} rows/s")
    print(f"  open when up to date           {opened_s * 1000:8.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    records = make_records(parser.parse_args().rows)
    with tempfile.TemporaryDirectory() as folder:
        measure("SQLite", f"sqlite:///{folder}/pictures.sqlite", records)
    with running_postgres(durable=True) as server:
        measure("PostgreSQL", server.url(), records)


if __name__ == "__main__":
    main()
