"""A folder takes another's place: with an exchange, in two steps, and durably."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cls.errors import FileError
from cls.package import packing as room
from cls.package.packing import atomic_folder


def write(folder: Path, text: str) -> None:
    with atomic_folder(folder) as staged:
        assert staged.parent == folder.parent
        assert staged.name.startswith(f".{folder.name}.{os.getpid()}-")
        assert staged.name.endswith(".part")
        assert list(staged.iterdir()) == []
        (staged / "a").write_text(text)


@pytest.mark.parametrize("has_exchange", [True, False])
def test_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_exchange: bool) -> None:
    if not has_exchange:
        monkeypatch.setattr(room, "_exchange", lambda *_: False)
    folder = tmp_path / "deep" / "model"
    write(folder, "one")
    (folder / "more").touch()
    write(folder, "two")
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("a", "two")]
    assert list(folder.parent.iterdir()) == [folder]


def test_an_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert room._exchange(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one" / "two").exists()
    assert (tmp_path / "two" / "one").exists()
    assert not room._exchange(tmp_path / "one", tmp_path / "none")
    monkeypatch.setattr(room.sys, "platform", "darwin")
    assert not room._exchange(tmp_path / "one", tmp_path / "two")
    monkeypatch.setattr(room.sys, "platform", "linux")
    monkeypatch.setattr(room.ctypes, "CDLL", lambda _: object())
    assert not room._exchange(tmp_path / "one", tmp_path / "two"), "a libc without it"


def test_the_new_name_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, closed, opened = [], [], {}

    def open_(path: Path, flags: int) -> int:
        number = real_open(path, flags)
        opened[number] = Path(path)
        return number

    real_open, real_fsync, real_close = os.open, os.fsync, os.close
    monkeypatch.setattr(room.os, "open", open_)
    monkeypatch.setattr(room.os, "fsync", lambda number: (synced.append(opened.get(number)), real_fsync(number)))
    monkeypatch.setattr(room.os, "close", lambda number: (closed.append(opened.pop(number, None)), real_close(number)))
    room._swap(_made(tmp_path / "staged"), tmp_path / "model")
    assert synced == closed == [tmp_path]
    assert not opened


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_folder_moved_aside_is_put_back_only_where_none_took_its_place(tmp_path: Path) -> None:
    old, folder = _made(tmp_path / ".model.old"), _made(tmp_path / "model")
    (old / "a").write_text("old")
    (folder / "a").write_text("new")
    _made(tmp_path / ".model.1-ab.part")
    other = _made(tmp_path / ".models.1-ab.part")
    with pytest.raises(RuntimeError), atomic_folder(folder):
        raise RuntimeError
    assert (folder / "a").read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [other, folder]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError) as caught, atomic_folder(tmp_path / "file"):
        pass
    assert caught.value.code == "file.not_a_folder"
    with pytest.raises(FileError) as caught, atomic_folder(tmp_path / "file" / "model"):
        pass
    assert caught.value.code == "file.unwritable"
    assert caught.value.where == str(tmp_path / "file" / "model")
