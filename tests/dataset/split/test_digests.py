from __future__ import annotations

import os
from pathlib import Path

import pytest

from cls.bottle.layout import Bottle
from cls.dataset.split.signatures import content_digests
from cls.files import sha256_of_bytes


@pytest.fixture
def pool(bottle: Bottle) -> Bottle:
    bottle.pictures.mkdir(parents=True)
    for name in ("a", "b"):
        bottle.picture(name).write_bytes(name.encode() * 100)
    return bottle


def test_digests_are_of_the_content(pool: Bottle) -> None:
    expected = {name: sha256_of_bytes(name.encode() * 100) for name in ("a", "b")}
    assert content_digests(pool, ["a", "b", "missing", "a"], workers=2) == expected
    os.utime(pool.picture("a"), (5, 5))
    assert content_digests(pool, ["a", "b"], workers=2) == expected
    pool.picture("b").write_bytes(b"other")
    assert content_digests(pool, ["b"], workers=2) == {"b": sha256_of_bytes(b"other")}


def test_a_file_is_read_once(pool: Bottle) -> None:
    first = content_digests(pool, ["a"], workers=1)
    # Size and time of change put back: nobody looks at the bytes again, which is what is promised and no more.
    status = pool.picture("a").stat()
    pool.picture("a").write_bytes(b"b" * 100)
    os.utime(pool.picture("a"), ns=(status.st_atime_ns, status.st_mtime_ns))
    assert content_digests(pool, ["a"], workers=1) == first


def test_a_damaged_memory_is_made_anew(pool: Bottle, caplog: pytest.LogCaptureFixture) -> None:
    first = content_digests(pool, ["a", "b"], workers=1)
    file: Path = pool.cache / "picture_digests.json"
    for content in ("{", "[1]", '{"a": 3}'):
        file.write_text(content)
        assert content_digests(pool, ["a", "b"], workers=1) == first
    assert [record.args for record in caplog.records] == [(file,)] * 3


def test_removed_pictures_are_forgotten(pool: Bottle) -> None:
    content_digests(pool, ["a", "b"], workers=1)
    pool.picture("a").unlink()
    assert list(content_digests(pool, ["a", "b"], workers=1)) == ["b"]
    assert '"a"' not in (pool.cache / "picture_digests.json").read_text()
