"""push_badlist.py: pictures of a list are rejected, known or not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cls.errors import FileError
from cls.pictures.database import PicturesDatabase, read_badlist
from cls.settings import REPOSITORY
from tests.pictures.people import person, record
from tests.preloaded import run_program


@pytest.mark.parametrize(
    "content",
    [
        b"a.jpeg\nb c.jpeg\n",
        b"a.jpeg\r\nb c.jpeg",
        b"\xef\xbb\xbfa.jpeg\r\n\r\n  \r\nb c.jpeg\r\n",
        b"d/9/e/guid/p/a.jpeg\npictures\\b c.jpeg\n",
        b'"a.jpeg"\n  "b c.jpeg"  \na.jpeg\n',
        b"a.jpeg\rb c.jpeg\r",
        "a.jpeg\r\nb c.jpeg\r\n".encode("utf-16"),
    ],
)
def test_lists_as_people_write_them(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "badlist.txt"
    path.write_bytes(content)
    assert read_badlist(path) == ["a.jpeg", "b c.jpeg"]


@pytest.mark.parametrize(
    ("content", "code", "where"),
    [
        (b"", "file.no_names", "badlist.txt"),
        (b"\n \r\n\n", "file.no_names", "badlist.txt"),
        (b"a.jpeg\n\xff\xfd.jpeg", "file.not_utf8", "badlist.txt:2"),
        (b"\x00\x01", "file.not_text", "badlist.txt"),
    ],
)
def test_what_is_no_list(tmp_path: Path, content: bytes, code: str, where: str) -> None:
    path = tmp_path / "badlist.txt"
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_badlist(path)
    assert (caught.value.code, caught.value.where) == (code, str(tmp_path / where))


def test_a_missing_list(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        read_badlist(tmp_path / "absent.txt")
    assert (caught.value.code, caught.value.where) == ("file.not_found", str(tmp_path / "absent.txt"))


def _push(configuration: Path, path: Path) -> subprocess.CompletedProcess[str]:
    script = "cls/classification/push_badlist.py"
    return run_program([script, "--badlist_path", str(path), "--cfg", str(configuration)], 60, cwd=REPOSITORY)


def test_the_script_rejects_once_and_says_what_it_did(
    database_url: str, configuration: Callable[..., Path], tmp_path: Path
) -> None:
    cfg = configuration(pictures_info_db_url=database_url)
    with PicturesDatabase.open(database_url) as database:
        database.write_people([record("a.jpeg", person()), record("kept.jpeg")], replace=False)
    path = tmp_path / "badlist.txt"
    path.write_text("a.jpeg\nunknown.jpeg\n")
    first = _push(cfg, path)
    assert (first.returncode, first.stderr) == (0, "")
    assert "1 rejected now" in first.stdout
    assert "1 were not in the pictures database" in first.stdout
    assert "unknown.jpeg  (not in the bottle's pictures either)" in first.stdout
    second = _push(cfg, path)
    assert "0 rejected now" in second.stdout
    assert "2 rejected before" in second.stdout
    with PicturesDatabase.open(database_url) as database:
        statuses = {path: read.status for path, read in database.records().items()}
    assert statuses == {"a.jpeg": "rejected", "unknown.jpeg": "rejected", "kept.jpeg": "unchecked"}


def test_an_unreachable_database_is_one_line(configuration: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "badlist.txt").write_text("a.jpeg\n")
    url = "postgresql+psycopg2://anna:geheim77@127.0.0.1:1/pictures"
    done = _push(configuration(pictures_info_db_url=url), tmp_path / "badlist.txt")
    assert done.returncode == 1
    assert done.stderr.startswith("error: postgresql+psycopg://anna:***@127.0.0.1:1/pictures: ")
    assert done.stderr.count("\n") == 1
    assert "geheim77" not in done.stderr + done.stdout
