"""The pool's ledger remembers pictures, also after a process was killed while writing a line."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.bottle.ledger import PictureLedger
from cls.errors import FileError


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "a.jpeg"
    file.write_bytes(b"content")
    return file


def test_entries_are_there_at_the_next_start(tmp_path: Path, picture: Path) -> None:
    ledger = PictureLedger(tmp_path / "ledger" / "pictures.jsonl")
    assert ledger.entry("a.jpeg") is None
    ledger.enter("a.jpeg", "1/2/a.jpeg", "aa", picture)
    ledger.enter("a.jpeg", "3/4/a.jpeg", "aa", picture)
    entry = PictureLedger(tmp_path / "ledger" / "pictures.jsonl").entry("a.jpeg")
    assert entry is not None
    assert entry == ledger.entry("a.jpeg")
    assert entry.filepaths == ("1/2/a.jpeg", "3/4/a.jpeg")
    assert entry.is_unchanged(picture)


def test_other_content_forgets_the_addresses_of_the_older(tmp_path: Path, picture: Path) -> None:
    ledger = PictureLedger(tmp_path / "l.jsonl")
    ledger.enter("a.jpeg", "1/a.jpeg", "aa", picture)
    ledger.enter("a.jpeg", "2/a.jpeg", "bb", picture)
    entry = ledger.entry("a.jpeg")
    assert entry is not None
    assert entry.filepaths == ("2/a.jpeg",)


def test_nothing_new_adds_no_line(tmp_path: Path, picture: Path) -> None:
    ledger = PictureLedger(tmp_path / "l.jsonl")
    for _ in range(3):
        ledger.enter("a.jpeg", "1/a.jpeg", "aa", picture)
    assert len((tmp_path / "l.jsonl").read_text().splitlines()) == 1


def test_a_changed_or_missing_file_is_noticed(tmp_path: Path, picture: Path) -> None:
    ledger = PictureLedger(tmp_path / "l.jsonl")
    ledger.enter("a.jpeg", "1/a.jpeg", "aa", picture)
    entry = ledger.entry("a.jpeg")
    assert entry is not None
    os.utime(picture, ns=(5, 5))
    assert not entry.is_unchanged(picture)
    picture.unlink()
    assert not entry.is_unchanged(picture)


@given(st.integers(0, 400))
def test_a_line_cut_anywhere_takes_no_other_with_it(cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        picture, path = Path(folder) / "a.jpeg", Path(folder) / "l.jsonl"
        picture.write_bytes(b"content")
        ledger = PictureLedger(path)
        ledger.enter("a.jpeg", "1/ä\u2028.jpeg", "aa", picture)
        ledger.enter("b.jpeg", "1/b.jpeg", "bb", picture)
        content = path.read_bytes()
        first_end = content.index(b"\n") + 1
        path.write_bytes(content[:cut])
        again = PictureLedger(path)
        assert (again.entry("a.jpeg") is not None) == (cut >= first_end - 1)
        again.enter("c.jpeg", "1/c.jpeg", "cc", picture)
        last = PictureLedger(path)
        assert last.entry("c.jpeg") is not None
        assert (last.entry("a.jpeg") is not None) == (cut >= first_end - 1)


def test_several_threads(tmp_path: Path, picture: Path) -> None:
    ledger = PictureLedger(tmp_path / "l.jsonl")
    with ThreadPoolExecutor(8) as executor:
        for number in range(200):
            executor.submit(ledger.enter, f"{number}.jpeg", f"1/{number}.jpeg", "aa", picture)
    again = PictureLedger(tmp_path / "l.jsonl")
    assert all(again.entry(f"{number}.jpeg") is not None for number in range(200))


@pytest.mark.parametrize("line", ["", "[]", "null", '{"name": "a"}', "\x00\x00", '{"name": "a", "filepaths": 5}'])
def test_lines_that_are_none_are_passed_over(tmp_path: Path, line: str) -> None:
    (tmp_path / "l.jsonl").write_text(line + "\n")
    assert PictureLedger(tmp_path / "l.jsonl").entry("a") is None


def test_what_cannot_be_read_or_written_is_an_error(tmp_path: Path, picture: Path) -> None:
    with pytest.raises(FileError) as caught:
        PictureLedger(tmp_path)
    assert (caught.value.code, caught.value.where) == ("file.unreadable", str(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError) as caught:
        PictureLedger(tmp_path / "file" / "l.jsonl").enter("a", "b", "c", picture)
    assert (caught.value.code, caught.value.where) == ("file.unreadable", str(tmp_path / "file" / "l.jsonl"))
